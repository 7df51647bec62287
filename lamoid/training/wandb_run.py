"""Figures as a run of Weights & Biases, kept in the run's folder (offline) or sent there too (online)."""

import os
import re
import secrets
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Literal

from lamoid.contained import read_whole
from lamoid.errors import InputError
from lamoid.training.figures_written import Figures, Writer, figures_written
from lamoid.weights.durable import durable_file

Mode = Literal["offline", "online"]
FOLDER = "wandb"  # named by W&B
_ID = "run-id"


def open_wandb(
    out: Path, *, mode: Mode, project: str, settings: Mapping[str, Any]
) -> tuple[Writer, Callable[[], None]] | None:
    """Make a writer of a W&B run in ``out/wandb`` and the function that closes it; ``None`` without the extra.

    ``settings`` is what W&B shows as the run's configuration. A training that goes on goes on with the same run:
    its name there, drawn once, stands in ``run-id``. Offline, nothing leaves the machine: ``wandb sync`` of the
    folder sends it later. Nothing is asked and nothing printed. Raise ``InputError`` where W&B refuses.
    """
    if mode == "offline":
        # W&B reports errors and its own use to its maker, offline too, unless this says no; it reads it when imported.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
    try:
        import wandb
        from wandb.errors import Error
    except ImportError:
        return None
    quiet = wandb.Settings(
        silent=True,
        console="off",
        disable_code=True,
        disable_git=True,
        disable_job_creation=True,
        x_disable_stats=True,
        x_save_requirements=False,
    )
    check_wandb(mode)
    try:
        with figures_written(out / FOLDER):
            (out / FOLDER).mkdir(exist_ok=True)  # W&B, finding none, would write to the machine's temporary folder
            identity = _identity(out / FOLDER / _ID)
            _wait_for_another_second(out / FOLDER, identity)
            run = wandb.init(
                mode=mode,
                dir=str(out),
                project=project,
                name=out.resolve().name,
                id=identity,
                resume="allow",
                reinit="create_new",
                config=dict(settings),
                settings=quiet,
            )
    except Error as error:
        raise InputError("log.wandb", str(error)[:300], "mend that, or set log.wandb to offline or off") from error
    run.define_metric("step")
    # W&B's own step may only grow, and a training that was killed goes back to its last checkpoint.
    run.define_metric("*", step_metric="step")

    def write(step: int, figures: Figures) -> None:
        run.log({"step": step, **figures})

    return write, run.finish


def check_wandb(mode: Literal["off"] | Mode) -> None:
    """Raise ``InputError`` if W&B would have to ask for a key, which nobody may be there to give."""
    if mode != "online":
        return
    try:
        import wandb
    except ImportError:
        return
    if not wandb.api.api_key:
        problem = "is online, and W&B knows no key"
        raise InputError("log.wandb", problem, "run `wandb login` first, or set it to offline")


def _wait_for_another_second(folder: Path, identity: str) -> None:
    """Wait if a part of the run was begun just now: W&B names its files by the second, and loses a second one."""
    begun = max((path.stat().st_ctime for path in folder.glob(f"*-{identity}")), default=0.0)
    time.sleep(min(1.1, max(0.0, begun + 1.1 - time.time())))


def _identity(path: Path) -> str:
    """Read the run's name at W&B, or draw one and keep it."""
    if path.is_file():
        name = read_whole(path, limit=100).decode("ascii", errors="replace").strip()
        if not re.fullmatch("[0-9a-f]{16}", name):
            raise InputError(path, "is no name that was drawn here", "remove the file to begin another run at W&B")
        return name
    name = secrets.token_hex(8)
    durable_file(path, name.encode() + b"\n")
    return name

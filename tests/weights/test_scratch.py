"""Folders that are there for a while: gone at the end, after an error, and after a kill with the next one."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from lamoid.weights.scratch import clear_scratch, scratch_folder

HOLD = """
import sys, time
from pathlib import Path
from lamoid.weights.scratch import scratch_folder
with scratch_folder(Path(sys.argv[1]), "steps") as folder:
    (folder / "half").write_text("half")
    print(folder, flush=True)
    time.sleep(60)
"""


def test_it_is_gone_at_the_end_and_after_an_error(tmp_path: Path) -> None:
    target = tmp_path / "new" / "out"
    with scratch_folder(target, "steps") as folder, scratch_folder(target, "statistics") as other:
        (folder / "x").write_text("x")
        assert folder.parent == other.parent == target.parent
        assert folder != other
    with pytest.raises(ZeroDivisionError), scratch_folder(target, "steps"):
        raise ZeroDivisionError
    assert not list(target.parent.iterdir())


@pytest.mark.parametrize("by_holding", [True, False])
def test_what_a_killed_holder_left_is_cleared_and_a_live_one_is_left_alone(tmp_path: Path, by_holding: bool) -> None:
    target = tmp_path / "out"
    with subprocess.Popen([sys.executable, "-c", HOLD, str(target)], stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdout is not None
        left = Path(holder.stdout.readline().strip())
        with scratch_folder(target, "steps"):
            assert (left / "half").exists()
            clear_scratch(target, ["steps"])
            assert (left / "half").exists()
        os.kill(holder.pid, signal.SIGKILL)
        holder.wait()
        clear_scratch(target, ["statistics"])
        assert left.exists()
        if by_holding:
            with scratch_folder(target, "steps"):
                assert not left.exists()
        else:
            clear_scratch(target, ["statistics", "steps"])
    assert not list(tmp_path.iterdir())

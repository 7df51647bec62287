"""Times fusions of three models beside mergekit and beside a plain copy of the same bytes, in one run.

    python benchmarks/fusion.py --scratch scratch [--small] [--runs 3] [--rules linear,ties]

Three LLaMAs with random bf16 weights, and the base that they are near, are made in the scratch folder and kept for the
next run: 2.2 GB each, 16 GB in all with the outputs (``--small``: 90 MB each). For each rule each round runs ``lamoid
fuse``, for linear also with ``--verify``, ``mergekit-yaml`` and the copy (read all models, write as much as one, sync),
each in a process of its own, timed from start to end and until its result is on the disk (mergekit does not sync), its
anonymous memory sampled every 5 ms. The models are in the system's cache for all. Needs the extra ``dev``.
The medians are printed and written to benchmarks/results/; with ``--rules`` the others of the same day stay there.
"""

import argparse
import json
import os
import platform
import shutil
import statistics
import subprocess
import sys
import threading
import time
from datetime import date
from importlib.metadata import version
from pathlib import Path

import torch

from lamoid.assembly.families.shape import Shape
from lamoid.assembly.families.table import family_of
from lamoid.weights.durable import durable_folder
from lamoid.weights.folder import open_folder, write_description
from lamoid.weights.names import Naming, joined_shape, parameter_shapes
from lamoid.weights.write import TensorWriter

LARGE = Shape(width=2048, layers=22, heads=32, kv_heads=4, hidden=5632, context=2048, tied=False)
SMALL = Shape(width=512, layers=4, heads=8, kv_heads=2, hidden=1408, context=2048, tied=False)
VOCAB = 32000
WEIGHTS = (0.2, 0.3, 0.5)
DENSITY = {"density": 0.5}
RULES: dict[str, tuple[int, bool, dict[str, float]]] = {
    "linear": (3, False, {}),
    "task_arithmetic": (3, True, {}),
    "slerp": (1, True, {"t": 0.3}),
    "model_stock": (3, True, {}),
    "ties": (3, True, DENSITY),
    "dare_linear": (3, True, DENSITY),
    "dare_ties": (3, True, DENSITY),
    "breadcrumbs": (3, True, {"density": 0.9, "gamma": 0.01}),
}
"""Of each rule: how many members, whether with a base, and its numbers."""
SAMPLE_SECONDS = 0.005
RESULTS = Path(__file__).parent / "results"
COPY = """
import os, sys
*sources, target = sys.argv[1:]
files = [os.open(path, os.O_RDONLY) for path in sources]
out = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
buffers = [bytearray(1 << 21) for _ in files]
while count := [os.readv(file, [buffer]) for file, buffer in zip(files, buffers)][0]:
    os.write(out, memoryview(buffers[0])[:count])
os.fsync(out)
"""
IDLE = "import lamoid.recipes.fuse, time; time.sleep(1)"


def make_model(folder: Path, shape: Shape, seed: int) -> None:
    """Write a model with normal bf16 weights of deviation 0.02, tensor by tensor; all but 0 lie near 0."""
    spec = shape.spec(VOCAB)
    shapes = parameter_shapes(spec)
    kin = family_of(spec)
    rows = (Naming() if kin is None else Naming(kin.family, kin.architecture)).rows(spec, shapes)
    generator, common = torch.Generator().manual_seed(seed), torch.Generator().manual_seed(0)
    with durable_folder(folder) as draft:
        write_description(draft, spec, dtype=torch.bfloat16, generation=None, tokenizer_files={})
        writer = TensorWriter(draft, [(row.theirs, torch.bfloat16, joined_shape(row, shapes)) for row in rows])
        for row in rows:
            tensor = torch.empty(joined_shape(row, shapes), dtype=torch.bfloat16)
            tensor.normal_(1.0 if tensor.ndim == 1 else 0.0, 0.02, generator=common)
            writer.write(tensor + torch.empty_like(tensor).normal_(0.0, 0.002, generator=generator) * (seed > 0))
        writer.finish()


class Watch:
    """Runs a command and samples its memory: seconds, peak anonymous bytes, peak resident bytes."""

    def __init__(self, command: list[str]) -> None:
        self.anonymous = self.resident = 0
        environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
        begin = time.perf_counter()
        with subprocess.Popen(
            command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        ) as process:
            self._over = threading.Event()
            sampler = threading.Thread(target=self._sample, args=(process.pid,))
            sampler.start()
            output, _ = process.communicate()
            self.seconds = time.perf_counter() - begin
            os.sync()  # ours and the copy have synced already; what another leaves is not the next one's work
            self.seconds_to_disk = time.perf_counter() - begin
            self._over.set()
            sampler.join()
        if process.returncode:
            sys.exit(f"{' '.join(command)} failed:\n{output}")

    def _sample(self, pid: int) -> None:
        while not self._over.wait(SAMPLE_SECONDS):
            try:
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
            except OSError:
                return
            figures = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith(("RssAnon", "VmHWM"))}
            self.anonymous = max(self.anonymous, int(figures.get("RssAnon", 0)) * 1024)
            self.resident = max(self.resident, int(figures.get("VmHWM", 0)) * 1024)


def commands(scratch: Path, models: list[Path], rule: str) -> dict[str, tuple[list[str], Path]]:
    """Give each contender's command for a rule and the folder or file it writes; the first model is the base."""
    bin_folder = Path(sys.executable).parent
    count, has_base, numbers = RULES[rule]
    base, members = models[0], models[1 : 1 + count]
    is_weighted = rule not in ("slerp", "model_stock")
    config = scratch / f"mergekit-{rule}.yaml"
    listed = [
        {"model": str(member), "parameters": {"weight": weight} if is_weighted else {}}
        for member, weight in zip(members, WEIGHTS, strict=False)
    ]
    tree = {"models": listed, "merge_method": rule, "dtype": "bfloat16", "parameters": numbers}
    config.write_text(json.dumps({**tree, "base_model": str(base)} if has_base else tree))
    ours, peer, copy = scratch / "fused-lamoid", scratch / "fused-mergekit", scratch / "copied"
    weights = ["--weights", ",".join(map(str, WEIGHTS))] if is_weighted else []
    options = [word for name, number in numbers.items() for word in ("--set", f"{name}={number}")]
    lamoid = [str(bin_folder / "lamoid"), "fuse", *map(str, members), *weights, *options, "--rule", rule]
    lamoid += ["--base", str(base)] if has_base else []
    files = [str(model / "model.safetensors") for model in (*members, *([base] if has_base else []))]
    table = {
        "lamoid": ([*lamoid, "--out", str(ours)], ours),
        "mergekit": ([str(bin_folder / "mergekit-yaml"), str(config), str(peer), "--no-copy-tokenizer"], peer),
        "copy": ([sys.executable, "-c", COPY, *files, str(copy)], copy),
    }
    verified = scratch / "fused-verified"
    if rule == "linear":
        table["lamoid --verify"] = ([*lamoid, "--verify", "--out", str(verified)], verified)
    return table


def remove(path: Path) -> None:
    """Delete what a contender wrote and let the disk come to rest."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
    os.sync()


def largest_difference(one: Path, other: Path) -> float:
    """Give the largest difference of two models' numbers, in bf16 roundings (2^-8) of their tensor's largest number."""
    ours, theirs = open_folder(one).tensors, open_folder(other).tensors
    worst = 0.0
    for name in ours:
        pair = ours.tensor(name).float(), theirs.tensor(name).float()
        worst = max(worst, ((pair[0] - pair[1]).abs().max() / pair[0].abs().max()).item() * 2.0**8)
    return worst


def measure(scratch: Path, models: list[Path], rule: str, runs: int) -> dict[str, object]:
    """Run all contenders in turn, ``runs`` times; give medians and what else is needed to read them."""
    table = commands(scratch, models, rule)
    taken: dict[str, list[Watch]] = {name: [] for name in table}
    difference = None
    Watch(table["copy"][0])  # untimed: all find the models in the system's cache
    for number in range(runs):
        for _, target in table.values():
            remove(target)
        for name, (command, _) in table.items():
            taken[name].append(Watch(command))
            print(f"{rule}, run {number + 1}: {name} {taken[name][-1].seconds:.2f} s", flush=True)
        if difference is None:
            difference = largest_difference(table["lamoid"][1], table["mergekit"][1])
    for _, target in table.values():
        remove(target)
    return {
        "contenders": {
            name: {
                "seconds": statistics.median(watch.seconds for watch in watches),
                "seconds_to_disk": statistics.median(watch.seconds_to_disk for watch in watches),
                "all_seconds": [watch.seconds for watch in watches],
                "peak_anonymous_bytes": max(watch.anonymous for watch in watches),
                "peak_resident_bytes": max(watch.resident for watch in watches),
            }
            for name, watches in taken.items()
        },
        "interpreter_anonymous_bytes": Watch([sys.executable, "-c", IDLE]).anonymous,
        "largest_difference_in_bf16_roundings": difference,
    }


def show(rule: str, result: dict, read: int, written: int) -> None:
    """Print the table: time, ratio to mergekit, memory, and the limit beside them."""
    found = result["contenders"]
    limit, peer = found["copy"]["seconds"], found["mergekit"]
    print(f"\n{rule}: {read / 1e9:.2f} GB read, {written / 1e9:.2f} GB written and synced")
    columns = ("seconds", "to disk", "x mergekit", "to disk", "x copy", "anonymous MiB", "resident MiB")
    print(" " * 15, *(f"{name:>{max(8, len(name))}}" for name in columns))
    for name, row in found.items():
        seconds, to_disk = row["seconds"], row["seconds_to_disk"]
        memory = f"{row['peak_anonymous_bytes'] / 2**20:13.0f} {row['peak_resident_bytes'] / 2**20:12.0f}"
        times = f"{peer['seconds'] / seconds:10.1f} {peer['seconds_to_disk'] / to_disk:8.1f}"
        print(f"{name:15} {seconds:8.2f} {to_disk:8.2f} {times} {seconds / limit:8.2f} {memory}")
    beyond = found["lamoid"]["peak_anonymous_bytes"] - result["interpreter_anonymous_bytes"]
    print(f"lamoid's anonymous memory beyond the interpreter and its libraries: {beyond / 2**20:.0f} MiB of 512")
    print(f"physical limit: the copy's {limit:.2f} s for the same bytes on this disk")
    rounding = result["largest_difference_in_bf16_roundings"]
    print(f"largest difference to mergekit's result: {rounding:.2f} bf16 roundings of a tensor's largest number")


def describe_machine() -> dict[str, object]:
    """Give what the figures hang on: the processor's kind, cores that may be used, memory, Python."""
    return {
        "processor": f"{platform.machine()} {torch.backends.cpu.get_cpu_capability()}",
        "cores": len(os.sched_getaffinity(0)),
        "memory_bytes": os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        "python": platform.python_version(),
    }


def main() -> None:
    """Make the models, run, print and save."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--scratch", type=Path, required=True, help="folder for models and outputs")
    parser.add_argument("--runs", type=int, default=3)
    parser.add_argument("--rules", default=",".join(RULES), help="which of them, with commas between")
    parser.add_argument("--small", action="store_true", help="90 MB models, to try the benchmark out")
    arguments = parser.parse_args()
    arguments.scratch.mkdir(parents=True, exist_ok=True)
    size = "small" if arguments.small else "1.1B"
    models = [arguments.scratch / f"model-{size}-{number}" for number in range(4)]
    for number, model in enumerate(models):
        if not model.exists():
            print(f"making {model}", flush=True)
            make_model(model, SMALL if arguments.small else LARGE, number)
    os.sync()
    bytes_each = (models[0] / "model.safetensors").stat().st_size
    result = {}
    for rule in arguments.rules.split(","):
        load = os.getloadavg()
        result[rule] = {**measure(arguments.scratch, models, rule, arguments.runs), "load_average_before": load}
        show(rule, result[rule], (RULES[rule][0] + RULES[rule][1]) * bytes_each, bytes_each)
    versions = {name: version(name) for name in ("lamoid", "torch", "mergekit")}
    record = {"date": date.today().isoformat(), "model": size, "bytes": bytes_each, "machine": describe_machine()}
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"fusion-{size}-{record['date']}.json"
    earlier = json.loads(path.read_text())["rules"] if path.exists() else {}
    record |= {**versions, "rules": {rule: row for rule in RULES if (row := (earlier | result).get(rule))}}
    path.write_text(json.dumps(record, indent=1) + "\n")
    print(f"written to {path}")


if __name__ == "__main__":
    main()

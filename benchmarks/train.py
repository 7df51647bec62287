"""Training steps of Lamoid beside transformers', eager and compiled, and what a step is made of.

The model is a Llama of transformers and ours with its weights; both get the same ids. The peer is its eager or compiled
forward pass under autocast with torch's fused AdamW and clipping, by hand and in its Trainer; ours is ``train_loop`` as
a recipe runs it, ``dtype`` and ``compute`` set. Sides take turns at going first, each comparison in a process of its
own; figures are medians, ratios the median of the turns' own. Before any timing the losses of the first step are
compared. Also measured: the loss after 200 steps beside float32's, memory of the loss at a vocabulary of 131072, and
tokens a second that a loader reads.

    python benchmarks/train.py                    # about 14 minutes on two quiet cores, 6 GB
    python benchmarks/train.py --quick            # about 5: fewer turns, and 40 steps in place of 200
    python benchmarks/train.py --only step        # or: trainer parts quality loss loader; the day's others stay
    python benchmarks/train.py --cuda             # a 1B Llama in bf16 on one GPU, beside transformers, share of peak
    python benchmarks/train.py --cuda --tiny      # the same path on the CPU, with a tiny size: shows that it runs
"""

import argparse
import datetime
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor
from train_parts import ROWS, VOCAB, measure_bandwidth, measure_loader, measure_loss_memory, split_step
from train_sides import ONE_B, RATE, SMALL, TINY, WIDE, Size, in_turns, our_steps, peer_steps, ratio

from lamoid.training.compute import ComputeSpec
from lamoid.training.peak import measure_peak

RESULTS = Path(__file__).parent / "results"
WANTED = {"small compiled": 1.3, "small eager": 1.5, "wide compiled": 1.2, "wide eager": 1.2}


def compare_steps(name: str, size: Size, turns: int, peak: float, modes: tuple[str, ...]) -> dict[str, Any]:
    """Time a step in bf16: ours and transformers', in each of the modes."""
    starts, sides, first = {}, {}, {}
    spec = size.build()[0].spec
    for mode in modes:
        ours, peer = size.build()
        compute = ComputeSpec(compile=mode == "compiled")
        sides[f"lamoid {mode}"] = our_steps(ours, size, "bfloat16", compute)
        sides[f"transformers {mode}"] = peer_steps(peer, size, "bfloat16", compiled=mode == "compiled")
    for side, steps in sides.items():
        began = time.perf_counter()
        first[side] = steps(2)[0]
        starts[side] = time.perf_counter() - began
    times = in_turns(sides, turns, each=4)  # the first pays for the memory that the other side used
    flops = 3.0 * spec.flops(size.tokens) * size.rows * size.tokens
    return {
        "name": name,
        "parameters": spec.parameters(),
        "first_loss": first,
        "seconds_of_two_first_steps": starts,
        "seconds": {side: statistics.median(listed) for side, listed in times.items()},
        "tokens_per_second": {
            side: size.rows * size.tokens / statistics.median(listed) for side, listed in times.items()
        },
        "seconds_of_the_products_alone": flops / peak,
        "share_of_peak": {side: flops / peak / statistics.median(listed) for side, listed in times.items()},
        "times_as_fast": {
            f"lamoid {mine} to transformers {theirs}": ratio(times, f"lamoid {mine}", f"transformers {theirs}")
            for mine in modes
            for theirs in modes
        },
        "turns": times,
    }


class _Rows(torch.utils.data.Dataset):
    """The same rows as a data set of transformers' Trainer."""

    def __init__(self, size: Size, count: int) -> None:
        self.rows = torch.cat([ids for ids, _ in zip(size.batches(), range(count), strict=False)])

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> dict[str, Tensor]:
        return {"input_ids": self.rows[index, :-1], "labels": self.rows[index, :-1]}


def compare_loops(size: Size, steps: int) -> dict[str, Any]:
    """Time the loops around an eager float32 step: the Trainer's, ours, and the bare one of transformers."""
    ours, peer = size.build()
    _, bare = size.build()
    with tempfile.TemporaryDirectory() as scratch:
        arguments = transformers.TrainingArguments(
            output_dir=scratch,
            per_device_train_batch_size=size.rows,
            max_steps=steps,
            learning_rate=RATE,
            optim="adamw_torch_fused",
            lr_scheduler_type="constant",
            logging_steps=10,
            save_strategy="no",
            report_to=[],
            use_cpu=size.device == "cpu",
            disable_tqdm=True,
            dataloader_pin_memory=False,
        )
        trainer = transformers.Trainer(model=peer, args=arguments, train_dataset=_Rows(size, steps))
        began = time.perf_counter()
        trainer.train()
        whole = (time.perf_counter() - began) / steps
    sides = {
        "lamoid": our_steps(ours, size, "float32", ComputeSpec()),
        "transformers bare": peer_steps(bare, size, "float32", compiled=False),
    }
    for side in sides.values():
        side(1)
    times = in_turns(sides, 4, each=max(1, steps // 4))
    return {"seconds": {"Trainer": whole, **{side: statistics.median(listed) for side, listed in times.items()}}}


def compare_quality(size: Size, steps: int) -> dict[str, Any]:
    """Train the same model on the same batches in float32 and in bf16, and compare the mean of the last tenth."""
    losses = {}
    for dtype in ("float32", "bfloat16"):
        ours, _ = size.build()
        losses[dtype] = our_steps(ours, size, dtype, ComputeSpec(compile=dtype == "bfloat16"))(steps)
    last = {dtype: statistics.mean(listed[-max(1, steps // 10) :]) for dtype, listed in losses.items()}
    return {"steps": steps, "loss": last, "differs_by": abs(last["bfloat16"] / last["float32"] - 1.0)}


def apart(work: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Do it in a process of its own: what earlier models left of the heap slows one side more than the other."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work).result()


def show(title: str, found: dict[str, Any]) -> dict[str, Any]:
    """Print what was found, and give it back."""
    print(title, flush=True)
    for name, value in found.items():
        if name == "turns":
            continue
        if isinstance(value, dict):
            value = ", ".join(f"{key} {_figure(number)}" for key, number in value.items())
        print(f"  {name:28} {_figure(value)}", flush=True)
    return found


def _figure(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def run_here(words: argparse.Namespace) -> dict[str, Any]:
    """Make all comparisons on the CPU."""
    turns, steps = (4, 40) if words.quick else (8, 200)
    peak, bandwidth = measure_peak(torch.device("cpu"), "bfloat16", seconds=2.0), measure_bandwidth()
    found: dict[str, Any] = {"peak_bf16_flops": peak, "bandwidth": bandwidth}
    modes = ("eager", "compiled")
    if "step" in words.only:
        for name, size in (("small", SMALL), ("wide", WIDE)):
            found[name] = show(f"step, {name}", apart(partial(compare_steps, name, size, turns, peak, modes)))
    if "parts" in words.only:
        found["parts"] = show("parts of the small step", apart(partial(split_step, SMALL, turns, peak, bandwidth)))
    if "trainer" in words.only:
        found["trainer"] = show(
            "the loop around a step", apart(partial(compare_loops, SMALL, 4 if words.quick else 12))
        )
    if "quality" in words.only:
        found["quality"] = show("bf16 beside float32", apart(partial(compare_quality, SMALL, steps)))
    if "loss" in words.only:
        kinds = ("whole logits", "lamoid", "torch linear_cross_entropy")
        listed = {kind: apart(partial(measure_loss_memory, kind)) for kind in kinds}
        found["loss"] = {name: {kind: one[name] for kind, one in listed.items()} for name in listed["lamoid"]}
        found["loss"]["less_memory"] = found["loss"]["bytes"]["whole logits"] / found["loss"]["bytes"]["lamoid"]
        show(f"loss of {ROWS} tokens at a vocabulary of {VOCAB}", found["loss"])
    if "loader" in words.only:
        for context, rows in ((1024, 16), (256, 16)):
            found[f"loader {context}"] = show("loader", apart(partial(measure_loader, context, rows)))
    return found


def run_on_a_gpu(words: argparse.Namespace) -> dict[str, Any]:
    """Compare a 1B step on one GPU, or with ``--tiny`` a small one on the CPU by the same path."""
    size = TINY if words.tiny else ONE_B
    peak = measure_peak(torch.device(size.device), "bfloat16", seconds=2.0)
    row = apart(partial(compare_steps, "1B", size, 2 if words.tiny else 10, peak, ("compiled",)))
    name = "cpu" if words.tiny else torch.cuda.get_device_name()
    return {"device": name, "peak_bf16_flops": peak, "1B": show("step, 1B", row)}


def judge(found: dict[str, Any]) -> dict[str, bool]:
    """Say which of the wanted figures were met, of those that were measured."""
    verdicts = {}
    for name, least in WANTED.items():
        size, mode = name.split()
        if size in found:
            met = found[size]["times_as_fast"][f"lamoid compiled to transformers {mode}"] >= least
            verdicts[f"{size}: {least} times transformers {mode}"] = met
    if "quality" in found:
        verdicts["loss within 1 % of float32's"] = found["quality"]["differs_by"] <= 0.01
    if "loss" in found:
        verdicts["a fourth of the memory"] = found["loss"]["less_memory"] >= 4.0
    for name in ("loader 1024", "loader 256"):
        if name in found:
            verdicts[f"{name}: 20 million tokens a second"] = found[name]["tokens_per_second"] >= 20e6
    return verdicts


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    kinds = ("step", "parts", "trainer", "quality", "loss", "loader")
    parser.add_argument("--quick", action="store_true", help="fewer turns and steps")
    parser.add_argument("--only", nargs="+", default=list(kinds), choices=kinds)
    parser.add_argument("--cuda", action="store_true", help="one step of a 1B model on one GPU, and nothing else")
    parser.add_argument("--tiny", action="store_true", help="with --cuda: the same on the CPU, with a tiny model")
    parser.add_argument("--out", type=Path, default=None, help="default benchmarks/results/train-DATE.json")
    words = parser.parse_args()
    began = time.perf_counter()
    date = datetime.date.today().isoformat()
    out = words.out or RESULTS / f"train-{'cuda-' if words.cuda else ''}{date}.json"
    earlier = json.loads(out.read_text())["found"] if out.exists() else {}
    found = {**earlier, **(run_on_a_gpu(words) if words.cuda else run_here(words))}
    result = {
        "date": date,
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "is_met": judge(found),
        "found": found,
    }
    show("wanted", result["is_met"])
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {out}, {time.perf_counter() - began:.0f} s in all")


if __name__ == "__main__":
    main()

"""Training steps of Lamoid beside transformers', eager and compiled, and what a step is made of.

The model is a Llama of transformers and ours with its weights; both get the same ids. The peer is its eager or compiled
forward pass under autocast with torch's fused AdamW and clipping, by hand and in its Trainer; ours is ``train_loop`` as
a recipe runs it, ``dtype`` and ``compute`` set. Sides take turns at going first, each comparison in a process of its
own; figures are medians, ratios the median of the turns' own. Before any timing the losses of the first step are
compared. Also measured: the loss after 200 steps beside float32's, memory of the loss at a vocabulary of 131072, and
tokens a second that a loader reads.

    python benchmarks/train.py                    # about 14 minutes on two quiet cores, 6 GB
    python benchmarks/train.py --quick            # about 5: fewer turns, and 40 steps in place of 200
    python benchmarks/train.py --only step        # or: trainer parts quality loss loader
    python benchmarks/train.py --cuda             # a 1B Llama in bf16 on one GPU, beside transformers, share of peak
    python benchmarks/train.py --cuda --tiny      # the same path on the CPU, with a tiny size: shows that it runs
"""

import argparse
import datetime
import itertools
import json
import os
import platform
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import torch
import transformers
from torch import Tensor, nn

from lamoid.assembly.attend import attend
from lamoid.assembly.batch import Batch
from lamoid.assembly.layout import Sight
from lamoid.assembly.likelihood import token_nats
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import Loader, NextTokens, TrainingBatch
from lamoid.data.manifest import Manifest, Shard
from lamoid.data.shards import Shards
from lamoid.training.compute import ComputeSpec
from lamoid.training.loop import train_loop
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.peak import measure_peak
from lamoid.training.precision import Dtype
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update
from lamoid.weights.folder import load_model, open_folder

RESULTS = Path(__file__).parent / "results"
RATE = 3e-4
MADE = 64  # batches, then the same again: to make them is no part of what is timed


@dataclass(frozen=True)
class Size:
    """A Llama and what it reads in a step."""

    width: int
    layers: int
    heads: int
    kv_heads: int
    hidden: int
    vocab: int
    rows: int
    tokens: int
    device: str = "cpu"

    def build(self) -> tuple[LanguageModel, nn.Module]:
        """Draw a model of transformers and give ours with its weights, by way of a folder."""
        torch.manual_seed(0)
        config = transformers.LlamaConfig(
            vocab_size=self.vocab,
            hidden_size=self.width,
            intermediate_size=self.hidden,
            num_hidden_layers=self.layers,
            num_attention_heads=self.heads,
            num_key_value_heads=self.kv_heads,
            max_position_embeddings=self.tokens,
            tie_word_embeddings=True,
            use_cache=False,
        )
        peer = transformers.LlamaForCausalLM(config)
        with tempfile.TemporaryDirectory() as scratch:
            peer.save_pretrained(scratch)
            ours = load_model(open_folder(Path(scratch)))
            for parameter in [*ours.parameters(), *peer.parameters()]:
                parameter.data = parameter.data.clone()  # the folder goes away, and both sides lie in memory alike
        return ours.to(self.device), nn.Module.to(peer, self.device)

    def batches(self) -> Iterator[Tensor]:
        """Give ids (rows, tokens + 1) that can be learnt: each follows from the one before, but for one in four."""
        generator = torch.Generator().manual_seed(1)
        follower = torch.randperm(self.vocab, generator=generator)
        made = torch.randint(0, self.vocab, (MADE * self.rows, self.tokens + 1), generator=generator)
        strays = torch.rand(made.shape, generator=generator) < 0.25
        for at in range(1, made.shape[1]):
            made[:, at] = torch.where(strays[:, at], made[:, at], follower[made[:, at - 1]])
        return itertools.cycle(made.split(self.rows))


SMALL = Size(256, 8, 8, 4, 688, 4096, 16, 256)
WIDE = Size(1024, 4, 16, 8, 2736, 4096, 4, 256)
ONE_B = Size(2048, 22, 32, 4, 5632, 32000, 8, 2048, "cuda")
TINY = Size(64, 2, 4, 2, 160, 512, 4, 64)
WANTED = {"small compiled": 1.3, "small eager": 1.5, "wide compiled": 1.2, "wide eager": 1.2}


def our_steps(model: LanguageModel, size: Size, dtype: Dtype, compute: ComputeSpec) -> Callable[[int], list[float]]:
    """Give a function that makes so many steps as a recipe makes them, and gives their losses."""
    optimizer = AdamWSpec(learning_rate=RATE).build(trained_parameters(model))
    state = TrainingState(model, optimizer, 0, dtype, compute=compute)
    batches = ([TrainingBatch(Batch(ids[:, :-1]), ids[:, 1:])] for ids in size.batches())
    update = Update(ScheduleSpec(decay="none"))

    def steps(count: int) -> list[float]:
        state.steps = state.step + count
        train_loop(state, batches, OBJECTIVES["causal"], update, [])
        return state.losses[-count:]

    return steps


def peer_steps(model: nn.Module, size: Size, dtype: Dtype, *, compiled: bool) -> Callable[[int], list[float]]:
    """Give the same of transformers, in the loop that everybody writes."""
    forward = torch.compile(model) if compiled else model
    decayed = [parameter for parameter in model.parameters() if parameter.ndim > 1]
    rest = [parameter for parameter in model.parameters() if parameter.ndim < 2]
    groups = [{"params": decayed, "weight_decay": 0.1}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=RATE, betas=(0.9, 0.95), fused=True)
    batches = size.batches()
    model.train()

    def step() -> Tensor:
        ids = next(batches).to(size.device)
        with torch.autocast(size.device, torch.bfloat16, enabled=dtype == "bfloat16"):
            logits = forward(input_ids=ids[:, :-1]).logits
            loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), ids[:, 1:].flatten())
        loss.backward()
        nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        optimizer.zero_grad()
        return loss.detach()

    def steps(count: int) -> list[float]:
        return [loss.item() for loss in [step() for _ in range(count)]]

    return steps


def in_turns(sides: dict[str, Callable[[int], Any]], turns: int, *, each: int = 1) -> dict[str, list[float]]:
    """Time all sides ``turns`` times, forwards and backwards in turn; seconds a step."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(turns):
        for name in list(sides)[:: 1 if turn % 2 else -1]:
            began = time.perf_counter()
            sides[name](each)
            times[name].append((time.perf_counter() - began) / each)
    return times


def ratio(times: dict[str, list[float]], ours: str, theirs: str) -> float:
    return statistics.median(b / a for a, b in zip(times[ours], times[theirs], strict=True))


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
    times = in_turns(sides, turns)
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


def split_step(size: Size, turns: int, peak: float, bandwidth: float) -> dict[str, Any]:
    """Say how long a compiled bf16 step takes and its parts, each by itself; the rest is what they leave of the step.

    Products are those of the blocks, forward and backward, the loss is the head's product and what follows it. The
    limit of products is the operations over the peak, that of the optimiser its bytes over the bandwidth.
    """
    ours, _ = size.build()
    compute = ComputeSpec(compile=True)
    whole = our_steps(ours, size, "bfloat16", compute)
    tokens = size.rows * size.tokens
    sides = {
        "step": whole,
        "matrix products": matrix_products(size),
        "attention": attention_alone(size),
        "loss": loss_alone(ours, size),
        "optimizer": optimizer_alone(ours),
    }
    for side in sides.values():
        side(2)
    seconds = {name: statistics.median(listed) for name, listed in in_turns(sides, turns).items()}
    inner = size.width
    pairs = 2 * 2 * size.tokens * inner * tokens * size.layers  # two products over all pairs, masked ones too
    head = 2 * size.width * size.vocab * tokens
    numbers = ours.spec.parameters()
    limits = {
        "matrix products": 3 * _linear_flops(size) * tokens / peak,
        "attention": 3 * pairs / 2 / peak,
        "loss": 3 * head / peak,
        # Adam reads weight, gradient and two moments and writes three; weights and gradients are cast, 16 bits each.
        "optimizer": numbers * (7 * 4 + 2 * (4 + 2)) / bandwidth,
    }
    rest = 2.0 * seconds["step"] - sum(seconds.values())
    return {
        "seconds": {**seconds, "rest": rest},
        "limits": {**limits, "step": sum(limits.values())},
    }


def _shapes(size: Size) -> list[tuple[int, int]]:
    """Give inputs and outputs of a block's linear maps."""
    shared = size.width // size.heads * size.kv_heads
    return [
        *((size.width, size.width), (size.width, shared), (size.width, shared), (size.width, size.width)),
        *((size.width, size.hidden), (size.width, size.hidden), (size.hidden, size.width)),
    ]


def _linear_flops(size: Size) -> int:
    return size.layers * sum(2 * inputs * outputs for inputs, outputs in _shapes(size))


def matrix_products(size: Size) -> Callable[[int], None]:
    """Give a function that makes the blocks' linear maps alone, forward and backward, in bf16."""
    tokens = size.rows * size.tokens
    made = [
        (
            torch.randn(tokens, inputs, dtype=torch.bfloat16, device=size.device),
            torch.randn(outputs, inputs, dtype=torch.bfloat16, device=size.device),
            torch.randn(tokens, outputs, dtype=torch.bfloat16, device=size.device),
        )
        for inputs, outputs in _shapes(size)
    ]

    def run(count: int) -> None:
        for _ in range(count * size.layers):
            for x, weight, gradient in made:
                _ = x @ weight.T, gradient @ weight, gradient.T @ x

    return run


def attention_alone(size: Size) -> Callable[[int], None]:
    """Give a function that makes the attention of all blocks alone, forward and backward, compiled, in bf16."""
    width = size.width // size.heads

    def draw(heads: int) -> Tensor:
        flat = torch.randn(size.rows, size.tokens, heads, width, dtype=torch.bfloat16, device=size.device)
        return flat.transpose(1, 2).requires_grad_()

    parts, compiled = (draw(size.heads), draw(size.kv_heads), draw(size.kv_heads)), torch.compile(attend)
    gradient = torch.randn_like(parts[0])

    def run(count: int) -> None:
        for _ in range(count * size.layers):
            torch.autograd.grad(compiled(*parts, Sight(None, causal=True)), parts, gradient)

    return run


def loss_alone(model: LanguageModel, size: Size) -> Callable[[int], None]:
    """Give a function that makes the loss from the trunk's output alone, forward and backward, compiled, in bf16."""
    optimizer = AdamWSpec().build(trained_parameters(model))
    state = TrainingState(model, optimizer, 1, "bfloat16", compute=ComputeSpec(compile=True))
    reader, targets = state.reader, next(size.batches())[:, 1:].to(size.device)
    shape = (size.rows, size.tokens, size.width)
    hidden = torch.randn(shape, dtype=torch.bfloat16, device=size.device).requires_grad_()
    table = reader.embedding.tokens.weight

    def run(count: int) -> None:
        for _ in range(count):
            torch.autograd.grad(token_nats(hidden, reader.logits, targets).sum(), (hidden, table))

    return run


def optimizer_alone(model: LanguageModel) -> Callable[[int], None]:
    """Give a function that makes what follows the backward pass: casts both ways, norm, clipping, AdamW."""
    optimizer = AdamWSpec(learning_rate=1e-9).build(trained_parameters(model))
    state = TrainingState(model, optimizer, 10**6, "bfloat16")
    update = Update(ScheduleSpec(decay="none"))
    copies = [torch.full_like(parameter, 1e-6) for parameter in state.reader.parameters()]

    def run(count: int) -> None:
        for _ in range(count):
            for parameter, gradient in zip(state.reader.parameters(), copies, strict=True):
                parameter.grad = gradient
            state.collect()
            update(state, 1.0)

    return run


def compare_quality(size: Size, steps: int) -> dict[str, Any]:
    """Train the same model on the same batches in float32 and in bf16, and compare the mean of the last tenth."""
    losses = {}
    for dtype in ("float32", "bfloat16"):
        ours, _ = size.build()
        losses[dtype] = our_steps(ours, size, dtype, ComputeSpec(compile=dtype == "bfloat16"))(steps)
    last = {dtype: statistics.mean(listed[-max(1, steps // 10) :]) for dtype, listed in losses.items()}
    return {"steps": steps, "loss": last, "differs_by": abs(last["bfloat16"] / last["float32"] - 1.0)}


VOCAB, WIDTH, ROWS = 131072, 256, 2048


def measure_loss_memory(kind: str) -> dict[str, Any]:
    """Give peak memory and time of one loss with its gradients in bf16, over what stood before it."""
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, dtype=torch.bfloat16).requires_grad_()
    table = (0.02 * torch.randn(VOCAB, WIDTH)).to(torch.bfloat16).requires_grad_()
    targets = torch.randint(0, VOCAB, (ROWS,))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    began = time.perf_counter()
    if kind == "whole logits":
        loss = nn.functional.cross_entropy(nn.functional.linear(hidden, table).float(), targets, reduction="sum")
    elif kind == "lamoid":
        loss = token_nats(hidden, lambda x: nn.functional.linear(x, table), targets).sum()
    else:
        options = nn.LinearCrossEntropyOptions()
        loss = nn.functional.linear_cross_entropy(hidden, table, targets, reduction="sum", options=options)
    loss.backward()
    seconds = time.perf_counter() - began
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    return {"loss": loss.item() / ROWS, "bytes": 1024 * peak, "seconds": seconds}


def measure_loader(context: int, rows: int) -> dict[str, Any]:
    """Give the tokens a second that one process reads from shards into batches."""
    count, vocab = 8_000_000, 4096
    random = np.random.default_rng(0)
    starts = np.unique(np.concatenate([[0], random.integers(0, count, count // 500)])).astype(np.int64)
    with tempfile.TemporaryDirectory() as scratch:
        file = Path(scratch) / "tokens.bin"
        random.integers(0, vocab, count).astype("<u2").tofile(file)
        tokens = np.memmap(file, dtype="<u2", mode="r")
        shards = (Shard("tokens.bin", count, "0" * 64),)
        manifest = Manifest(1, len(starts), count, count, vocab, 2, None, None, "", "", shards)
        held = Shards(Path(scratch), manifest, (tokens,), starts, 0, count)
        loader = Loader(held, NextTokens(context), batch=rows, seed=1)
        best = 0.0
        for _ in range(5):
            began = time.perf_counter()
            read = sum(next(loader).batch.ids.numel() for _ in range(2_000_000 // (context * rows)))
            best = max(best, read / (time.perf_counter() - began))
    return {"context": context, "rows": rows, "tokens_per_second": best}


def measure_bandwidth() -> float:
    """Give the bytes a second of copying a large tensor, read and written."""
    source = torch.ones(1 << 26)
    target, best = torch.empty_like(source), 0.0
    for _ in range(6):
        began = time.perf_counter()
        target.copy_(source)
        best = max(best, 2 * 4 * len(source) / (time.perf_counter() - began))
    return best


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
    found = run_on_a_gpu(words) if words.cuda else run_here(words)
    result = {
        "date": datetime.date.today().isoformat(),
        "machine": {"processor": platform.machine(), "cores": os.cpu_count(), "threads": torch.get_num_threads()},
        "versions": {"torch": torch.__version__, "transformers": transformers.__version__},
        "is_met": judge(found),
        **found,
        "seconds_in_all": time.perf_counter() - began,
    }
    show("wanted", result["is_met"])
    out = words.out or RESULTS / f"train-{'cuda-' if words.cuda else ''}{result['date']}.json"
    out.write_text(json.dumps(result, indent=1) + "\n")
    print(f"written to {out}, {result['seconds_in_all']:.0f} s in all")


if __name__ == "__main__":
    main()

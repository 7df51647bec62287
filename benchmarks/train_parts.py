"""What ``train.py`` measures by itself: the parts of a step, the loss of a large vocabulary, and the loader."""

import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from train_sides import Size, in_turns, our_steps

from lamoid.assembly.attend import attend
from lamoid.assembly.layout import Sight
from lamoid.assembly.likelihood import token_nats
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import Loader, NextTokens
from lamoid.data.manifest import Manifest, Shard
from lamoid.data.shards import Shards
from lamoid.training.compute import ComputeSpec
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update

VOCAB, WIDTH, ROWS = 131072, 256, 1024


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


def measure_loss_memory(kind: str) -> dict[str, Any]:
    """Give peak memory and time of one loss with its gradients in bf16, over what stood before it."""
    torch.manual_seed(0)
    hidden = torch.randn(ROWS, WIDTH, dtype=torch.bfloat16).requires_grad_()
    # In 16 bits from the start: the peak of making it would hide that of the loss.
    table = torch.empty(VOCAB, WIDTH, dtype=torch.bfloat16).normal_(std=0.02).requires_grad_()
    targets = torch.randint(0, VOCAB, (ROWS,))
    # Not getrusage: what it calls this process's peak is at first that of the one which started it.
    Path("/proc/self/clear_refs").write_text("5")
    before = _peak_resident()
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
    return {"loss": loss.item() / ROWS, "bytes": _peak_resident() - before, "seconds": seconds}


def _peak_resident() -> int:
    """Give the most bytes that this process has had in memory since its peak was last reset."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))


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

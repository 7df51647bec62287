"""The two sides of ``train.py``: Lamoid's steps and transformers' on the same model and batches, taken in turns."""

import itertools
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
import transformers
from torch import Tensor, nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.model import LanguageModel
from lamoid.data.loader import TrainingBatch
from lamoid.training.compute import ComputeSpec
from lamoid.training.loop import train_loop
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.optimizers import AdamWSpec
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.precision import Dtype
from lamoid.training.schedule import ScheduleSpec
from lamoid.training.state import TrainingState
from lamoid.training.update import Update
from lamoid.weights.folder import load_model, open_folder

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

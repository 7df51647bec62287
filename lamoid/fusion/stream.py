"""Runs a fusion rule over whole models through bounded buffers: reading, arithmetic and writing overlap."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from typing import Any, TypedDict, Unpack

import torch
from torch import Tensor

from lamoid.freed_memory import give_freed_memory_back
from lamoid.fusion.engine import MEMORY, Engine, Job
from lamoid.fusion.output import Output
from lamoid.fusion.passes import Span
from lamoid.fusion.rules.rule import Rule
from lamoid.fusion.source import Settings, Source
from lamoid.fusion.verify import check_hashes
from lamoid.fusion.workers import Staff, fuse_by_workers
from lamoid.weights.durable import Draft
from lamoid.weights.layout import SHARD_BYTES, cut_shards, info_bytes
from lamoid.weights.read import Tensors

__all__ = ["How", "Settings", "Source", "fuse_in_memory", "stream_fusion", "total_bytes"]


class How(TypedDict, total=False):
    """How a fusion is run; nothing here but ``names``, ``dtype``, ``seed`` and ``shard_bytes`` changes what is written.

    ``names`` are the tensors to fuse (all of the first member's if not given), ``dtype`` is what floating ones are
    stored in (the members' own), ``seed`` is for the rules that draw, ``device`` where the arithmetic is done.
    ``memory`` is what buffers may take (512 MiB), ``threads`` how many read and compute (one a core).
    ``advance`` is told the bytes written, ``shard_bytes`` is the size of the files. ``workers`` is the number of
    processes, which are started here, or, if a ``run`` is named, wait for it in ``join_fusion``. ``verify``: models
    are compared with their manifests, and what is written is read back from the disk.
    """

    names: Sequence[str] | None
    dtype: torch.dtype | None
    seed: int
    device: str
    memory: int
    threads: int | None
    advance: Callable[[int], None] | None
    shard_bytes: int
    workers: int
    run: str
    verify: bool


def stream_fusion(
    members: Sequence[Source], base: Source | None, rule: Rule, settings: Settings, draft: Draft, **how: Unpack[How]
) -> None:
    """Write ``rule`` of the members into ``draft`` as safetensors.

    All models hold the tensors ``names`` with equal shapes and dtypes. ``settings`` gives, in the order of
    ``members``, weights and options for a tensor by its name; rules sum in an order that the members' content gives.
    Where the draft has a journal, what a killed fusion of the same has written is not made again.
    Raises ``InputError`` for a limit that is too small, a NaN or an infinity in a model, whole numbers that differ.
    """
    give_freed_memory_back()
    shard_bytes, advance = how.get("shard_bytes", SHARD_BYTES), how.get("advance")
    workers, run, memory = how.get("workers", 1), how.get("run", ""), how.get("memory", MEMORY)
    staff = Staff(workers, run, memory if run else memory // workers)
    models, verify = [*members, *([] if base is None else [base])], how.get("verify", False)
    with (
        closing(_engine(members, base, rule, settings, {**how, "memory": staff.memory})) as engine,
        ThreadPoolExecutor(1, "fusion-verify") as checker,
    ):
        if draft.journal is not None:
            draft.journal.begin(f"{engine.identity()} {workers}")
        infos = [(info.name, engine.job.stored(info), info.shape) for info in engine.infos]
        shards = cut_shards(infos, shard_bytes=shard_bytes)
        checked = checker.submit(check_hashes, models) if verify else None
        if workers == 1:
            _write(engine, Output(draft, shards, advance, verify=verify))
        else:
            fuse_by_workers(engine, draft, shards, staff, shard_bytes=shard_bytes, verify=verify)
            if advance is not None:
                advance(sum(info_bytes(info) for info in infos))
        if checked is not None:
            checked.result()


def _write(engine: Engine, output: Output) -> None:
    try:
        output.make_room(engine.room.waiting, engine.slice_bytes)
        engine.run(output)
        output.finish()
    finally:
        output.abandon()


def fuse_in_memory(
    members: Sequence[Source], base: Source | None, rule: Rule, settings: Settings, **how: Unpack[How]
) -> dict[str, Tensor]:
    """Give the tensors that ``stream_fusion`` would write."""
    with closing(_engine(members, base, rule, settings, how)) as engine:
        held = _Held({info.name: torch.empty(info.shape, dtype=engine.job.stored(info)) for info in engine.infos})
        engine.run(held)
        held.finish()
    return held.tensors


def total_bytes(tensors: Tensors, names: Sequence[str] | None = None) -> int:
    """Count the bytes of the tensors ``names``, all of them if not given."""
    return sum(tensors[name].stop - tensors[name].start for name in names or tensors)


def _engine(members: Sequence[Source], base: Source | None, rule: Rule, settings: Settings, how: Any) -> Engine:
    given = {name: how[name] for name in ("names", "dtype", "seed", "device") if name in how}
    return Engine(Job(members, base, rule, settings, **given), how.get("memory", MEMORY), how.get("threads"))


class _Held:
    """Takes the slices into memory."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self.tensors = tensors
        self._waiting: list[Future[None]] = []

    def done(self, name: str) -> int:
        return 0

    def room(self, name: str, span: Span) -> Tensor:
        return self.tensors[name].view(-1)[span[0] : span[0] + span[1]]

    def put(self, name: str, span: Span, room: Tensor, fused: Future[None]) -> None:
        self._waiting.append(fused)
        while self._waiting and self._waiting[0].done():
            self._waiting.pop(0).result()

    def finish(self) -> None:
        for fused in self._waiting:
            fused.result()

"""A rule at work: tensor by tensor its plan is made, then its slices are fused on the threads of a pool."""

import hashlib
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Protocol

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.fusion.finite import fits
from lamoid.fusion.memory import Room, check_room, divide_memory
from lamoid.fusion.passes import ModelPasses, Reading, Span, TensorPasses
from lamoid.fusion.pool import Pool
from lamoid.fusion.rules.rule import Combine, Options, Rule
from lamoid.fusion.source import Settings, Source, check_alike, in_content_order
from lamoid.weights.header import TensorInfo

ARITHMETIC = 2
"""Rises where the bits of a result change: a fusion half written before is then begun anew."""
MEMORY = 512 * 2**20
_COPIED = 1 << 18


class Target(Protocol):
    """Where slices go, in the order of the tensors and within each from its first element on."""

    def done(self, name: str) -> int:
        """Count the bytes of a tensor that need not be made again."""
        ...

    def room(self, name: str, span: Span) -> Tensor:
        """Give room for a slice, 1-D in the dtype it is stored in; wait until there is some."""
        ...

    def put(self, name: str, span: Span, room: Tensor, fused: Future[None]) -> None:
        """Take a slice that will lie in ``room`` when the future is done."""
        ...


@dataclass(frozen=True)
class Job:
    """What is to be fused: models that hold the tensors ``names`` alike, rule and settings in the members' order."""

    members: Sequence[Source]
    base: Source | None
    rule: Rule
    settings: Settings
    names: Sequence[str] | None = None
    dtype: torch.dtype | None = None
    seed: int = 0
    device: str = "cpu"

    def infos(self) -> list[TensorInfo]:
        """Give the tensors in the order of writing.

        Wide numbers come first, so that each is aligned in the file; else as they lie in the file that is read.
        """
        tensors = self.members[0].tensors
        wanted = set(tensors if self.names is None else self.names)
        found = [tensors[name] for name in tensors if name in wanted]
        return sorted(found, key=lambda info: -self.stored(info).itemsize)

    def stored(self, info: TensorInfo) -> torch.dtype:
        """Give the dtype that a tensor is written in."""
        return self.dtype if self.dtype is not None and info.dtype.is_floating_point else info.dtype


class Engine:
    """Fuses the tensors of a job, in order, within a part of ``memory``."""

    def __init__(
        self, job: Job, memory: int = MEMORY, threads: int | None = None, slice_elements: int | None = None
    ) -> None:
        self.job, self.infos = job, job.infos()
        check_alike(job.members, job.base, self.infos)
        members, self._settings = in_content_order(job.members, job.settings, [info.name for info in self.infos])
        models = len(members) + (job.base is not None)
        widest = max((max(info.dtype.itemsize, job.stored(info).itemsize) for info in self.infos), default=1)
        self.room: Room = divide_memory(models, widest, memory, threads)
        check_room(job.rule, self.infos, len(members), models, memory, members[0].statistics)
        self._pool = Pool(self.room.threads)
        self._reading = Reading(
            members,
            job.base,
            job.rule,
            slice_elements or self.room.slice_elements,
            self._pool,
            job.seed,
            job.device,
            self.room.kept_bytes,
            self.room.gathered_bytes,
        )
        self.slice_bytes = self._largest_slice()
        self._surveyed: dict[str, Options] = {}

    def close(self) -> None:
        """End the threads."""
        self._pool.close()

    def identity(self) -> str:
        """Give a hash of all that the result hangs on, as far as it is known without reading the models whole."""
        digest = hashlib.sha256(repr((ARITHMETIC, self.job.seed, self.job.device, torch.__version__)).encode())
        for model in self._reading.models:
            held = [model.tensors] if model.statistics is None else [model.tensors, model.statistics]
            files = {tensors[name].file for tensors in held for name in tensors}
            stats = [path.stat() for path in sorted(files) if path.is_file()]
            digest.update(repr((model.key, [(stat.st_size, stat.st_mtime_ns) for stat in stats])).encode())
        plan = self.job.rule.plan
        digest.update(repr((plan.__module__, plan.__qualname__, self.job.rule.unit)).encode())
        for info in self.infos:
            weights, options = self._settings(info.name)
            digest.update(repr((info.name, info.shape, self.job.stored(info), list(weights), options)).encode())
        return digest.hexdigest()

    def run(self, target: Target, part: Callable[[str, Span], bool] | None = None) -> None:
        """Fuse every tensor into ``target``, or those slices that ``part`` says are ours."""
        for info in self.infos:
            spans = self._spans(info)
            done = target.done(info.name) // self.job.stored(info).itemsize
            spans = [span for span in spans if span[0] + span[1] > done and (part is None or part(info.name, span))]
            if not spans:
                continue
            passes = TensorPasses(self._reading, info)
            combine = self._plan(passes) if info.dtype.is_floating_point else None
            for span in spans:
                self._start(target, passes, info, span, combine)

    def _start(
        self, target: Target, passes: TensorPasses, info: TensorInfo, span: Span, combine: Combine | None
    ) -> None:
        room = target.room(info.name, span)

        def fuse(span: Span) -> None:
            if combine is None:
                self._copy(info, span, room)
            else:
                self._fuse(passes, span, combine, room)

        if combine is not None and self._reading.unit(info) == "tensor":
            fused: Future[None] = Future()
            fuse(span)
            fused.set_result(None)
        else:
            fused = self._pool.submit(fuse, span)
        target.put(info.name, span, room, fused)

    def _spans(self, info: TensorInfo) -> list[Span]:
        if info.dtype.is_floating_point:
            return self._reading.spans(info)
        return [(first, min(_COPIED, info.elements - first)) for first in range(0, info.elements, _COPIED)]

    def _largest_slice(self) -> int:
        return max(
            (span[1] * self.job.stored(info).itemsize for info in self.infos for span in self._spans(info)[:1]),
            default=1,
        )

    def _plan(self, passes: TensorPasses) -> Combine:
        weights, options = self._settings(passes.name)
        return self.job.rule.plan(passes, weights, self._survey(weights, options))

    def _survey(self, weights: Sequence[float], options: Options) -> Options:
        survey = self.job.rule.survey
        if survey is None:
            return options
        key = repr((list(weights), options))
        if key not in self._surveyed:
            floating = [info for info in self.infos if info.dtype.is_floating_point and info.elements]
            model = ModelPasses([TensorPasses(self._reading, info, keep=False) for info in floating])
            self._surveyed[key] = survey(model, weights, options)
        return self._surveyed[key]

    def _fuse(self, passes: TensorPasses, span: Span, combine: Combine, out: Tensor) -> None:
        """Give each piece to the rule, and cast what it gives, once."""
        for piece in passes.pieces(span):
            fused = combine(piece).reshape(-1)
            begin = piece.first - span[0]
            if not fits(fused, out.dtype):
                cure = "use members of a wider dtype, or smaller weights"
                raise InputError(f"tensor {passes.name}", f"the fused numbers are too large for {out.dtype}", cure)
            out[begin : begin + fused.numel()].copy_(fused)

    def _copy(self, info: TensorInfo, span: Span, out: Tensor) -> None:
        """Copy whole numbers, which every member must hold alike."""
        first, *others = self._reading.members
        first.tensors.read_into(info.name, span[0], out)
        theirs = torch.empty_like(out)
        for other in others:
            other.tensors.read_into(info.name, span[0], theirs)
            if not torch.equal(out, theirs):
                problem = f"holds whole numbers that differ from those in {first.name}"
                raise InputError(f"{other.name}: tensor {info.name}", problem, "whole numbers have no average")

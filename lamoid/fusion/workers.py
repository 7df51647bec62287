"""Several processes at one fusion: each fuses its share of the slices into the same files, which are hashed behind.

What they are to do is written as JSON into the draft's folder, so that processes started here and those started by
others (the ranks of torchrun, on hosts that share the disk) find it alike.
"""

import os
import subprocess
import sys
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from lamoid.errors import InputError
from lamoid.fusion.engine import Engine, Job
from lamoid.fusion.parts import PartOutput, Parts
from lamoid.fusion.rules.table import RULES
from lamoid.fusion.source import Source
from lamoid.weights.durable import Draft
from lamoid.weights.header import DTYPES, NAMES, TensorInfo
from lamoid.weights.index import INDEX
from lamoid.weights.journal import Journal
from lamoid.weights.layout import Shard, cut_shards, index_bytes
from lamoid.weights.read import Tensors

JOB = ".job"
_DONE = ".done-"
_POLL = 0.02

Row = tuple[str, str, tuple[int, ...], int, int, str]
"""Name, dtype, shape, first byte, byte behind the last, and file of a tensor."""


class Model(msgspec.Struct):
    """A model as its tensors' places in files."""

    name: str
    key: str
    tensors: list[Row]
    statistics: list[Row] | None = None


class Written(msgspec.Struct):
    """A job in JSON."""

    run: str
    count: int
    members: list[Model]
    base: Model | None
    rule: str
    settings: dict[str, tuple[list[float], dict[str, Any]]]
    dtype: str | None
    seed: int
    device: str
    memory: int
    threads: int
    slice_elements: int
    shard_bytes: int
    identity: str
    work: str


class Failure(msgspec.Struct):
    """What a worker failed with: culprit, problem and cure of an ``InputError``, or an OSError's number and words."""

    input_error: tuple[str, str, str] | None = None
    os_error: tuple[int, str] | None = None


@dataclass(frozen=True)
class Staff:
    """How many processes, this one the first, with how much memory each.

    The others are started here, unless the name of a run is given, under which they are waiting (``join_fusion``).
    """

    count: int
    run: str
    memory: int


def fuse_by_workers(
    engine: Engine, draft: Draft, shards: Sequence[Shard], staff: Staff, *, shard_bytes: int, verify: bool = False
) -> None:
    """Fuse with several processes; the files are hashed when all have written."""
    count, name = staff.count, staff.run

    def hash_one(shard: Shard) -> None:
        draft.place(shard.name, shard.size, start=shard.size).close(verify=verify)

    for shard in shards:
        _lay_out(draft.path / shard.name, shard)
    job = _written(engine, draft, staff, shard_bytes)
    (draft.path / f"{JOB}.new").write_bytes(msgspec.json.encode(job))
    (draft.path / f"{JOB}.new").rename(draft.path / JOB)
    command = [sys.executable, "-P", "-m", "lamoid.fusion.worker", str(draft.path)]
    started = [] if name else [_start([*command, str(rank)]) for rank in range(1, count)]
    try:
        _fuse_part(engine, draft.path, shards, Parts(shards, count), 0, draft.journal)
        _wait_for(draft.path, range(1, count), started)
    finally:
        for process in started:
            process.kill()
            process.communicate()
    with ThreadPoolExecutor(engine.room.threads) as pool:
        list(pool.map(hash_one, shards))
    for path in [draft.path / JOB, *(draft.path / f"{_DONE}{rank}" for rank in range(1, count))]:
        path.unlink(missing_ok=True)
    if len(shards) > 1:
        draft.write(INDEX, index_bytes(shards))


def join_fusion(target: Path | str, rank: int, run: str, *, patience: float = 3600.0) -> None:
    """Do the share of a ``rank`` above 0 in the fusion into ``target`` that rank 0 leads under the same ``run``.

    Raises ``InputError`` if rank 0 has not begun after ``patience`` seconds, and what the share fails with.
    """
    target, until = Path(target).absolute(), time.monotonic() + patience
    while time.monotonic() < until:
        for path in target.parent.glob(f".{target.name}.tmp-*/{JOB}"):
            if msgspec.json.decode(path.read_bytes(), type=Written).run == run:
                do_part(path.parent, rank)
                return
        time.sleep(_POLL)
    raise InputError(target, f"no fusion of the run {run!r} began within {patience:.0f} s", "look at what rank 0 says")


def do_part(folder: Path, rank: int) -> None:
    """Do a rank's share of the job that a draft's folder holds, and say there how it ended."""
    job = msgspec.json.decode((folder / JOB).read_bytes(), type=Written)
    failure = Failure()
    try:
        with closing(_engine(job)) as engine:
            infos = [(info.name, engine.job.stored(info), info.shape) for info in engine.infos]
            shards = cut_shards(infos, shard_bytes=job.shard_bytes)
            journal = Journal(folder, job.identity, part=rank) if job.identity else None
            if journal is not None:
                journal.begin(job.work)
            _fuse_part(engine, folder, shards, Parts(shards, job.count), rank, journal)
    except InputError as error:
        failure = Failure(input_error=(str(error.culprit), error.problem, error.cure))
        raise
    except OSError as error:
        failure = Failure(os_error=(error.errno or 0, error.strerror or str(error)))
        raise
    finally:
        if sys.exc_info()[0] is None or failure != Failure():
            (folder / f"{_DONE}{rank}.new").write_bytes(msgspec.json.encode(failure))
            (folder / f"{_DONE}{rank}.new").rename(folder / f"{_DONE}{rank}")


def _fuse_part(
    engine: Engine, folder: Path, shards: Sequence[Shard], parts: Parts, rank: int, journal: Journal | None
) -> None:
    output = PartOutput(folder, shards, parts, journal)
    try:
        engine.run(output, lambda name, span: parts.owner(name, span) == rank)
        output.finish()
    finally:
        output.abandon()


def _lay_out(path: Path, shard: Shard) -> None:
    """Make a file in its full size, with its header; what earlier writers have put there stays."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o666)
    try:
        os.ftruncate(descriptor, shard.size)
        os.pwrite(descriptor, shard.header, 0)
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _start(command: list[str]) -> "subprocess.Popen[bytes]":
    """Start a worker; it ends when its standard input does, which is when this process does."""
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109 - modules as here, no others
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places},
    )


def _wait_for(folder: Path, ranks: Sequence[int], started: Sequence["subprocess.Popen[bytes]"]) -> None:
    for rank in ranks:
        path = folder / f"{_DONE}{rank}"
        while not path.exists():
            if started and started[rank - 1].poll() is not None and not path.exists():
                words = started[rank - 1].communicate()[1].decode(errors="replace").strip()
                raise OSError(5, f"worker {rank} ended: {words[-500:] or started[rank - 1].returncode}")
            time.sleep(_POLL)
        failure = msgspec.json.decode(path.read_bytes(), type=Failure)
        if failure.input_error is not None:
            raise InputError(*failure.input_error)
        if failure.os_error is not None:
            raise OSError(*failure.os_error)


def _written(engine: Engine, draft: Draft, staff: Staff, shard_bytes: int) -> Written:
    job = engine.job
    rule = next((name for name, rule in RULES.items() if rule is job.rule), None)
    if rule is None:
        raise InputError("workers", "can only be given rules of the table", "fuse with one worker")
    settings = {}
    for info in engine.infos:
        weights, options = job.settings(info.name)
        settings[info.name] = (list(weights), msgspec.to_builtins(options))
    return Written(
        run=staff.run,
        count=staff.count,
        members=[_model(member) for member in job.members],
        base=None if job.base is None else _model(job.base),
        rule=rule,
        settings=settings,
        dtype=None if job.dtype is None else NAMES[job.dtype],
        seed=job.seed,
        device=job.device,
        memory=staff.memory,
        threads=max(1, engine.room.threads // staff.count),
        slice_elements=engine.room.slice_elements,
        shard_bytes=shard_bytes,
        identity="" if draft.journal is None else draft.journal.identity,
        work="" if draft.journal is None else f"{engine.identity()} {staff.count}",
    )


def _engine(job: Written) -> Engine:
    rule = RULES[job.rule]
    settings = {
        name: (weights, msgspec.convert(options, rule.options)) for name, (weights, options) in job.settings.items()
    }
    dtype = None if job.dtype is None else DTYPES[job.dtype]
    base = None if job.base is None else _source(job.base)
    members = [_source(model) for model in job.members]
    described = Job(members, base, rule, settings.__getitem__, list(settings), dtype, job.seed, job.device)
    return Engine(described, job.memory, job.threads, job.slice_elements)


def _model(source: Source) -> Model:
    rows = [_rows(source.name, tensors) for tensors in (source.tensors, source.statistics) if tensors is not None]
    return Model(source.name, source.key, rows[0], rows[1] if len(rows) > 1 else None)


def _rows(name: str, tensors: Tensors) -> list[Row]:
    if not isinstance(tensors, Tensors):
        raise InputError(name, "does not lie in files, which workers need", "fuse with one worker")
    return [
        (info.name, NAMES[info.dtype], info.shape, info.start, info.stop, str(info.file)) for info in tensors.values()
    ]


def _source(model: Model) -> Source:
    def opened(rows: list[Row]) -> Tensors:
        infos = {}
        for name, kind, shape, start, stop, file in rows:
            infos[name] = TensorInfo(name, DTYPES[kind], shape, start, stop, Path(file))
        return Tensors(infos)

    statistics = None if model.statistics is None else opened(model.statistics)
    return Source(model.name, opened(model.tensors), model.key, statistics)

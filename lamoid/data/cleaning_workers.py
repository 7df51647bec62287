"""Batches of texts cleaned by several processes at once, their outcomes in the order of the batches."""

import os
import subprocess
import sys
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from queue import SimpleQueue
from typing import BinaryIO

import msgspec

from lamoid.data.cleaning_worker import read_frame, write_frame
from lamoid.text.clean_document import Outcome, clean_document
from lamoid.text.clean_rules import CleanSpec

Batch = list[str]


def all_cores() -> int:
    """Give the number of cores that this process may use."""
    return len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1


def clean_batches(batches: Iterable[Batch], spec: CleanSpec, workers: int) -> Iterator[tuple[Batch, list[Outcome]]]:
    """Give each batch with its outcomes, in order; with one worker in this process, else in as many others.

    Never more batches are held than there are workers, and one more.
    """
    if workers == 1:
        for batch in batches:
            yield batch, [clean_document(text, spec) for text in batch]
        return
    idle: SimpleQueue[subprocess.Popen[bytes]] = SimpleQueue()
    started: list[subprocess.Popen[bytes]] = []

    def work(batch: Batch) -> list[Outcome]:
        process = idle.get()
        try:
            return _ask(process, batch)
        finally:
            idle.put(process)

    waiting: deque[tuple[Batch, Future[list[Outcome]]]] = deque()
    with ThreadPoolExecutor(workers) as pool:
        try:
            for batch in batches:
                if len(started) < workers:
                    started.append(_start(spec))
                    idle.put(started[-1])
                waiting.append((batch, pool.submit(work, batch)))
                if len(waiting) > workers:
                    done, future = waiting.popleft()
                    yield done, future.result()
            while waiting:
                done, future = waiting.popleft()
                yield done, future.result()
        finally:
            for _, future in waiting:
                future.cancel()
            for process in started:
                _end(process)


def _start(spec: CleanSpec) -> subprocess.Popen[bytes]:
    places = os.pathsep.join(place or os.getcwd() for place in sys.path)  # noqa: PTH109
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "lamoid.data.cleaning_worker"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": places, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"},
    )
    source, _ = _pipes(process)
    with suppress(BrokenPipeError):  # of which the first batch tells
        write_frame(source, msgspec.msgpack.encode(spec))
    return process


def _ask(process: subprocess.Popen[bytes], batch: Batch) -> list[Outcome]:
    source, answers = _pipes(process)
    try:
        write_frame(source, msgspec.msgpack.encode(batch))
        frame = read_frame(answers)
    except BrokenPipeError:
        frame = None
    if frame is None:
        raise RuntimeError(f"a process that cleans text ended with status {process.wait()}; is there enough memory?")
    return msgspec.msgpack.decode(frame, type=list[Outcome])


def _pipes(process: subprocess.Popen[bytes]) -> tuple[BinaryIO, BinaryIO]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("a process that cleans text was started without pipes")
    return process.stdin, process.stdout  # pyright: ignore[reportReturnType]


def _end(process: subprocess.Popen[bytes]) -> None:
    """Stop a process; what it works on is not wanted any more."""
    process.kill()
    for pipe in _pipes(process):
        with suppress(BrokenPipeError):
            pipe.close()
    process.wait()

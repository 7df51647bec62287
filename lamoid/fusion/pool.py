"""Does the same work for many slices on several threads, and gives the results in order."""

from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

import torch

A = TypeVar("A")
T = TypeVar("T")
_AHEAD = 4
_KEPT_BYTES = 16 << 20


class Pool:
    """``threads`` threads on which torch works with one thread each; their number changes no bit of what is summed."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        # glibc hands freed memory back above a threshold, and the next piece pays for every page anew. Freeing a block
        # that was mapped raises the threshold to twice its size (mallopt(3)); the block itself is never touched.
        torch.empty(_KEPT_BYTES, dtype=torch.uint8)
        self._before = torch.get_num_threads()
        self._executor = ThreadPoolExecutor(threads, "fusion", initializer=torch.set_num_threads, initargs=(1,))

    def submit(self, work: Callable[[A], T], argument: A) -> Future[T]:
        """Do the work for one argument, behind all that was submitted before."""
        return self._executor.submit(work, argument)

    def each(self, work: Callable[[A], T], arguments: Sequence[A]) -> Iterator[T]:
        """Do the work for each argument, a few ahead of the one whose result is given."""
        waiting: deque[Future[T]] = deque()
        for argument in arguments:
            waiting.append(self.submit(work, argument))
            if len(waiting) > _AHEAD * self.threads:
                yield waiting.popleft().result()
        while waiting:
            yield waiting.popleft().result()

    def close(self) -> None:
        """End the threads; what has not begun is not done."""
        self._executor.shutdown(cancel_futures=True)
        torch.set_num_threads(self._before)

"""Finds stop strings in a text that comes in pieces."""

from collections.abc import Sequence


class StopFinder:
    """Passes text on until a stop string is complete; what may be the beginning of one is held back.

    Where several are found, the one that is complete first counts, and of those the longest: so it makes no difference
    how the text was cut into pieces.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self.stops = tuple(stops)
        self.has_stopped = False
        self._held = ""

    def push(self, text: str) -> str:
        """Take the next piece; give what is certain to stand before every stop string."""
        if self.has_stopped:
            return ""
        held = self._held + text
        ends = [(held.find(stop) + len(stop), -len(stop)) for stop in self.stops if stop in held]
        if ends:
            self.has_stopped, self._held = True, ""
            end, length = min(ends)
            return held[: end + length]
        keep = self._count_open(held)
        self._held = held[len(held) - keep :]
        return held[: len(held) - keep]

    def finish(self) -> str:
        """Give what was held back: the text has ended, so no stop string can be completed any more."""
        rest, self._held = self._held, ""
        return rest

    def _count_open(self, text: str) -> int:
        """Count the characters at the end of ``text`` that a stop string may begin with."""
        longest = min(len(text), max((len(stop) for stop in self.stops), default=1) - 1)
        for count in range(longest, 0, -1):
            if any(stop.startswith(text[-count:]) for stop in self.stops):
                return count
        return 0

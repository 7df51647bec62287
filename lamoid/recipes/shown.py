"""What ``lamoid info`` gives, whichever kind of thing it was asked about."""

from abc import abstractmethod

import msgspec


class Shown(msgspec.Struct, frozen=True):
    """The figures of a model or of a file."""

    @abstractmethod
    def lines(self) -> list[str]:
        """Give what a person reads."""

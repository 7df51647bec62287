"""What a recipe may say of one source of text."""

import msgspec

from lamoid.errors import InputError


class TextTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``train`` and ``validation``: text files, folders and globs, or one folder of prepared shards each.

    ``hold_out`` keeps the last share of the training text, counted in characters, for validation.
    """

    train: tuple[str, ...] = ()
    validation: tuple[str, ...] = ()
    hold_out: float = 0.0
    separator: str | None = None
    field: str = "text"

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError("train", "is empty", "name text files, or a folder of shards")
        self.check_held_out()

    def check_held_out(self) -> None:
        """Raise ``InputError`` unless one way at most is named to keep text for validation."""
        if not 0.0 <= self.hold_out < 1.0:
            raise InputError("hold_out", f"is {self.hold_out}, must be at least 0 and below 1", "0.1 keeps a tenth")
        if self.hold_out and self.validation:
            raise InputError("hold_out", "is set beside validation", "choose one of the two")


class SourceTable(TextTable, frozen=True, forbid_unknown_fields=True):
    """One of several sources that are mixed; its share of the rows is ``weight`` over the sum of all weights."""

    weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0.0 < self.weight < float("inf"):
            raise InputError("weight", f"is {self.weight}, must be above 0 and finite", "leave out what gets no share")

"""What ``[data]`` of a training recipe may say where it is rows, each with something to be learnt about it."""

import msgspec

from lamoid.errors import InputError


class RowsTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="rows"):
    """``train`` and ``validation``: files, folders and globs of rows; the other keys name their fields or columns.

    ``hold_out`` keeps that share of the training rows, chosen by the hashes of their texts, for validation. ``second``
    is the second text of a pair; ``between`` parts several labels in one column.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    hold_out: float = 0.0
    text: str = "text"
    second: str = ""
    label: str = "label"
    between: str = ","
    words: str = "words"
    tags: str = "tags"
    source: str = "source"
    target: str = "target"

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError("train", "is empty", "name files of rows")
        if not 0.0 <= self.hold_out < 1.0:
            raise InputError("hold_out", f"is {self.hold_out}, must be at least 0 and below 1", "0.1 keeps a tenth")
        if self.hold_out and self.validation:
            raise InputError("hold_out", "is set beside validation", "choose one of the two")
        for name in ("text", "label", "words", "tags", "source", "target"):
            if not getattr(self, name):
                raise InputError(name, "is empty", "name a field or a column")

    @property
    def has_validation(self) -> bool:
        """Say whether any row is kept to measure on."""
        return bool(self.validation or self.hold_out)

"""What is said of a step that was not made: its loss was no number, or stood too far above those before."""

from typing import Literal

import msgspec

Action = Literal["skip", "roll_back"]


class Incident(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Step ``step`` was not made for the reason ``what``; after ``"roll_back"`` the run went on from step ``to``.

    A step that is skipped counts: its batch is used up and the schedule goes on, but nothing was learnt from it.
    """

    step: int
    action: Action
    what: str
    to: int | None = None

    def line(self) -> str:
        """Give what a person reads."""
        if self.to is None:
            return f"step {self.step}: {self.what}; the step was skipped"
        return f"step {self.step}: {self.what}; back to step {self.to}, and on with the data behind it"

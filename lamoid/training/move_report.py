"""What is said of a move that a model went through while it was trained."""

import msgspec


class MoveReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A move after step ``step``, with the names of parameters and the losses, nats a token, before and after it.

    ``kept`` counts the parameters that stayed as they were, with the optimiser's state. ``is_preserving``: the losses
    are equal but for rounding. In JSON a loss that is no number is null.
    """

    step: int
    kind: str
    path: str
    is_preserving: bool
    kept: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    loss_before: float | None
    loss_after: float | None
    parameters: int

    def line(self) -> str:
        """Give what a person reads."""
        tensors = f"{self.kept} tensors kept, {len(self.added)} added, {len(self.removed)} removed"
        what = "preserving" if self.is_preserving else "plain"
        before, after = ("no number" if loss is None else f"{loss:.4f}" for loss in (self.loss_before, self.loss_after))
        losses = f"loss {before} before, {after} after"
        return f"step {self.step}: {self.kind} {self.path} ({what}): {tensors}; {losses}"

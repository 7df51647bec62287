"""What is said of a move that a model went through while it was trained."""

import msgspec


class MoveReport(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A move after step ``step``, with the names of parameters and the losses, nats a token, before and after it.

    ``kept`` counts the parameters that stayed as they were, with the optimiser's state. ``is_preserving``: the losses
    are equal but for rounding.
    """

    step: int
    kind: str
    path: str
    is_preserving: bool
    kept: int
    added: tuple[str, ...]
    removed: tuple[str, ...]
    loss_before: float
    loss_after: float
    parameters: int

    def line(self) -> str:
        """Give what a person reads."""
        tensors = f"{self.kept} tensors kept, {len(self.added)} added, {len(self.removed)} removed"
        what = "preserving" if self.is_preserving else "plain"
        losses = f"loss {self.loss_before:.4f} before, {self.loss_after:.4f} after"
        return f"step {self.step}: {self.kind} {self.path} ({what}): {tensors}; {losses}"

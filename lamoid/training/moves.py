"""Moves by step: surgery between two steps of a run, which the optimiser follows."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from lamoid.assembly.model import LanguageModel
from lamoid.assembly.surgery import Change
from lamoid.assembly.surgery_moves import set_gate
from lamoid.training.move_report import MoveReport
from lamoid.training.state import TrainingState


@dataclass(frozen=True)
class Move:
    """What is made of the model after step ``step``."""

    step: int
    kind: str
    path: str
    make: Callable[[LanguageModel], Change]


@dataclass(frozen=True)
class Raising:
    """The entry ``expert`` of the router's bias called ``bias`` rises for ``over`` steps that follow step ``start``.

    It starts ``below`` the others that are not rising, and ends at their average. The parameter has this name from step
    ``first`` to step ``last``.
    """

    bias: str
    expert: int
    below: float
    start: int
    over: int
    first: int
    last: int

    def level(self, step: int) -> float:
        """Give how far below the others the entry stands after a step."""
        return self.below * (1.0 - (step - self.start) / self.over)


def apply_moves(
    moves: Sequence[Move],
    measure: Callable[[TrainingState], float],
    writers: Sequence[Callable[[MoveReport], None]],
) -> Callable[[TrainingState], None]:
    """Make the hook that makes a step's moves, to be the first of the hooks and called after every step.

    So a step's evaluation and checkpoint are those of the changed model, and a checkpoint never waits for a move.
    """

    def hook(state: TrainingState) -> None:
        for move in moves:
            if move.step != state.step:
                continue
            before = measure(state)
            change = move.make(state.model)
            state.apply(change)
            report = MoveReport(
                step=state.step,
                kind=move.kind,
                path=move.path,
                is_preserving=change.is_preserving,
                kept=len(change.kept),
                added=change.added,
                removed=change.removed,
                loss_before=before,
                loss_after=measure(state),
                parameters=change.spec.parameters(),
            )
            state.moves.append(report)
            for write in writers:
                write(report)

    return hook


def raise_gates(raisings: Sequence[Raising]) -> Callable[[TrainingState], None]:
    """Make the hook that raises the gates of new experts, to be called after every step, behind the moves."""

    def hook(state: TrainingState) -> None:
        active = [raising for raising in raisings if raising.first <= state.step <= raising.last]
        for raising in active:
            bias, level = state.model.get_parameter(raising.bias), raising.level(state.step)
            low = {other.expert for other in active if other.bias == raising.bias and other.level(state.step) > 0.0}
            set_gate(bias, raising.expert, level, low)

    return hook

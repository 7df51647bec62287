"""Going back to the newest regular checkpoint from a step that must not be made, and on with the data behind it."""

from collections.abc import Callable

from lamoid.errors import InputError
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.guard import GuardSpec, RollBack
from lamoid.training.incident import Incident
from lamoid.training.resume import resume
from lamoid.training.state import TrainingState
from lamoid.training.update import drop_gradients


def roll_back(
    state: TrainingState,
    checkpoints: Checkpoints,
    spec: GuardSpec,
    back: RollBack,
    say: Callable[[str], None],
    *,
    keeps_best: bool = False,
) -> None:
    """Put everything but the place in the data back to the newest whole regular checkpoint, and note the incident.

    Where the run ``keeps_best``, the best validation loss stays the best, though its step is gone: the model that had
    it is the one that was kept. No save may be under way. A run that is killed behind this goes on from that checkpoint
    too, with the data that led here: it meets the same step and goes back as this one did, so the outcome is the same
    to the bit. Raise ``InputError`` when the run has gone back to the same checkpoint too often.
    """
    drop_gradients(state)
    before, best = state.incidents, state.best
    resume(state, checkpoints, say, is_return=True)
    repeated = [incident for incident in before if incident.action == "roll_back" and incident.to == state.step]
    if len(repeated) >= spec.most_in_a_row:
        problem = f"{back.what}, after {len(repeated)} returns to step {state.step} already"
        cure = "lower the learning rate, look at the data, or raise guard.most_in_a_row"
        raise InputError(f"training step {back.step}", problem, cure)
    incident = Incident(back.step, "roll_back", back.what, state.step)
    state.incidents += [*repeated, incident]
    if keeps_best and best != state.best:
        state.undone = best
    say(incident.line())

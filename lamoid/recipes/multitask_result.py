"""What a training over tasks says of itself at its end."""

import msgspec

from lamoid.evaluation.compare import Interval
from lamoid.evaluation.text_table import build_table, show, table_lines
from lamoid.training.move_report import MoveReport


class TaskResult(msgspec.Struct, frozen=True):
    """How well a task's model does on its test set of ``texts``; ``loss`` in nats a text, or a token.

    ``accuracy`` is ``None`` where tokens are said; ``most_frequent`` is that of always saying the commonest label.
    """

    task: str
    model: str
    objective: str
    loss: float
    accuracy: float | None
    interval: Interval | None
    most_frequent: float | None
    texts: int
    classes: int
    parameters: int
    data_hash: str


class MultitaskResult(msgspec.Struct, frozen=True):
    """All tasks; ``parameters`` counts a shared tensor once, ``apart`` what the models would have without sharing.

    ``seconds`` and ``tokens`` are those of the training steps, also those before a resume.
    """

    out: str
    tasks: list[TaskResult]
    parameters: int
    apart: int
    steps: int
    resumed_from: int
    loss: float
    seconds: float
    tokens: int
    moves: list[MoveReport]
    remarks: list[str]

    def lines(self) -> list[str]:
        """Give what a person reads."""
        rows = [
            (task.task, show(task.loss), show(task.accuracy, task.interval), show(task.most_frequent), str(task.texts))
            for task in self.tasks
        ]
        header = ("task", "loss", "accuracy", "commonest", "texts")
        table = table_lines(build_table(f"{self.out}, test sets [95 % intervals]", header, rows))
        size = f"{self.parameters:,} parameters, {self.apart:,} if nothing were shared at the end"
        pace = f"{self.steps} steps, training loss {self.loss:.4f}, {self.seconds:.1f} s, {self.tokens:,} tokens"
        return [*table, size, pace, *(move.line() for move in self.moves), *self.remarks]

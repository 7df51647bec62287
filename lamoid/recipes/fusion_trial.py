"""What each model of a fusion scored on the texts that it is measured and judged on."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from lamoid.errors import InputError
from lamoid.evaluation.identity import hash_model
from lamoid.evaluation.joined import Joined
from lamoid.evaluation.perplexity import Loss
from lamoid.evaluation.report import Figures, Measured
from lamoid.recipes.fusion_plan import Plan
from lamoid.recipes.fusion_tasks import HandedTask, Metric, Task, as_llama, read_tasks
from lamoid.recipes.measuring import Measuring, Opened
from lamoid.weights.folder import ModelFolder

UNIFORM, FUSED = "\0uniform", "\0fused"
"""What the two are called among paths: no path holds NUL, but a member may well be called fused."""


@dataclass
class Trial:
    """Losses by model, a path, ``UNIFORM`` or ``FUSED``, and by task; scores by model and metric."""

    tasks: list[Task]
    metrics: Mapping[str, Metric]
    reader: Measuring
    seed: int
    measured: dict[str, list[list[Loss]]] = field(default_factory=dict)
    judged: dict[str, list[list[Loss]]] = field(default_factory=dict)
    scores: dict[str, dict[str, list[float]]] = field(default_factory=dict)
    hashes: dict[str, str] = field(default_factory=dict)

    def open(self, folder: ModelFolder, name: str = "") -> Opened:
        """Load a model that is to be measured or judged."""
        return self.reader.open(folder, name, reads_text=any(task.reads_text for task in self.tasks))

    def run(self, plan: Plan) -> None:
        """Measure the members on the one half; judge them and the base on the other. One model is open at a time."""
        members = {str(folder.path): folder for folder in plan.members}
        base = {} if plan.base is None else {str(plan.base.path): plan.base}
        for name, folder in {**base, **members}.items():
            opened = self.open(folder)
            if name in members:
                self.measured[name] = self.losses(opened)
            self.judge(name, opened, hash_model(folder.path))

    def losses(self, opened: Opened) -> list[list[Loss]]:
        """Score the measuring half of each task."""
        return [task.measure(opened) for task in self.tasks]

    def measure(self, name: str, opened: Opened) -> float:
        """Score the measuring half and give the mean loss, in nats a token."""
        self.measured[name] = self.losses(opened)
        return self.loss(name)

    def judge(self, name: str, opened: Opened, model_hash: str) -> None:
        """Score the judging half of each task, and by each metric."""
        self.judged[name] = [task.judge(opened) for task in self.tasks]
        self.scores[name] = {metric: list(score(as_llama(opened))) for metric, score in self.metrics.items()}
        self.hashes[name] = model_hash

    def loss(self, name: str) -> float:
        """Give a model's mean loss on the measuring half in nats a token: each task's, by the tasks' shares."""
        tasks = zip(self.tasks, self.measured[name], strict=True)
        return math.fsum(task.weight * _mean(name, task.name, losses) for task, losses in tasks)

    def joined(self) -> tuple[list[str], Joined, dict[str, Figures]]:
        """Give the names of what was judged, their losses of all tasks, and each one's figures."""
        names = list(self.judged)
        parts = [
            Measured.of([self.judged[name][index] for name in names], self.seed + index)
            for index in range(len(self.tasks))
        ]
        for task, part in zip(self.tasks, parts, strict=True):
            if not part.nats.shape[1]:
                problem = f"the judging text of {task.name} holds no token that the models score"
                raise InputError("judge", problem, "give more text")
        joined = Joined(parts, [task.weight for task in self.tasks])
        return names, joined, dict(zip(names, joined.figures(), strict=True))


def read_trial(
    plan: Plan, handed: Sequence[HandedTask], metrics: Mapping[str, Metric], reader: Measuring
) -> Trial | None:
    """Read what the fusion is measured and judged on; None if there is nothing."""
    if not plan.recipe.tasks and not handed and not metrics:
        return None
    return Trial(read_tasks(plan.recipe, handed, reader), metrics, reader, plan.recipe.seed)


def _mean(name: str, task: str, losses: Sequence[Loss]) -> float:
    tokens = sum(loss.tokens for loss in losses)
    if not tokens:
        raise InputError(name, f"scores no token of the measuring half of {task}", "give more text")
    return math.fsum(loss.nats for loss in losses) / tokens

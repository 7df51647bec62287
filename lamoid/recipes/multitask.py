"""Training over tasks whose models have modules in common: data, group, loop and hooks are put together here."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import partial
from itertools import islice
from pathlib import Path
from typing import Annotated, Any, cast

import msgspec
import torch
from torch import Tensor

from lamoid.assembly.group import ModelGroup, encode_group, initialise_group
from lamoid.assembly.model import LanguageModel
from lamoid.contained import read_whole
from lamoid.data.task_rows import TaskLoader, TaskRows, by_length
from lamoid.errors import InputError
from lamoid.evaluation.accuracy import accuracy
from lamoid.recipes.multitask_data import (
    TaskData,
    encode_task,
    group_spec,
    open_tokenizer,
    read_texts,
    trunk_spec,
)
from lamoid.recipes.multitask_recipe import MultitaskRecipe, read_multitask
from lamoid.recipes.multitask_result import MultitaskResult, TaskResult
from lamoid.recipes.progress import Progress
from lamoid.recipes.run_folder import DATA, Claim, check_died_early, claim_folder, fixed_part, renewed
from lamoid.text.tokenizer import Tokenizer
from lamoid.training.checkpoint import Checkpoints
from lamoid.training.interrupt import heed_signals, stop_when_asked
from lamoid.training.json_lines import JsonLines, last_step
from lamoid.training.loop import Hook, train_loop
from lamoid.training.moves import apply_moves
from lamoid.training.objectives import OBJECTIVES
from lamoid.training.parameter_groups import trained_parameters
from lamoid.training.resume import resume as resume_state
from lamoid.training.saver import Saver
from lamoid.training.soft_tie import SoftTie
from lamoid.training.state import TrainingState
from lamoid.training.supervised import read_classes
from lamoid.training.task_moves import as_moves, check_moves
from lamoid.training.tasks import TASK_OBJECTIVES, Penalty, RunningLosses, TaskBatches, TaskObjective
from lamoid.training.update import Update
from lamoid.weights.durable import durable_file, durable_folder
from lamoid.weights.folder import save_model

RESULT = "result.json"
_READ_AT_ONCE = 128


def multitask(
    recipe: Annotated[Path | str | Mapping[str, Any] | MultitaskRecipe, "recipe, a TOML file"],
    *,
    out: Annotated[Path | str | None, "folder of the run; default runs/NAME of the recipe"] = None,
    resume: Annotated[bool, "go on from the newest whole checkpoint in the folder"] = False,
    progress: Progress | None = None,
) -> MultitaskResult:
    """Train the models of several tasks together, what they share being one; each becomes a model folder of its own.

    Going on with a run that ended gives the result that it stored. Raise ``InputError`` naming the recipe's key or
    the data's file, ``TrainingDiverged`` where the loss is no number.
    """
    checked = read_multitask(recipe)
    name = Path(recipe).stem if isinstance(recipe, Path | str) else "multitask"
    place = Path(out) if out is not None else Path("runs") / name
    with claim_folder(place, checked, resume=resume) as claim:
        with claim.given_up_on_refusal():
            run = assemble(checked, place)
        if resume and (place / RESULT).is_file():
            return msgspec.json.decode(read_whole(place / RESULT, limit=1 << 24), type=MultitaskResult)
        begun = run.go_on(claim, progress) if resume else 0
        run.train(progress)
        result = run.finish(begun)
        durable_file(place / RESULT, msgspec.json.format(msgspec.json.encode(result), indent=1) + b"\n")
    return result


@dataclass
class Run:
    """The parts of a run; what is measured on test texts is reported, and steers nothing."""

    recipe: MultitaskRecipe
    out: Path
    tokenizer: Tokenizer
    data: dict[str, TaskData]
    batches: TaskBatches
    state: TrainingState
    objective: TaskObjective
    remarks: list[str] = field(default_factory=list)

    @property
    def group(self) -> ModelGroup:
        """The models."""
        return cast("ModelGroup", self.state.model)

    @property
    def checkpoints(self) -> Checkpoints:
        """The run's checkpoints; beside the model they hold the losses that soft ties look at."""
        hashes = {name: task.data_hash for name, task in self.data.items()}
        identity = {"recipe": fixed_part(self.recipe), "data": hashes, "tokenizer": self.tokenizer.fingerprint()}
        again = partial(renewed, kind=MultitaskRecipe)
        return Checkpoints(self.out / "checkpoints", self.recipe.checkpoint.keep, identity, self._position, again)

    def go_on(self, claim: Claim, progress: Progress | None) -> int:
        """Put the run where its newest whole checkpoint was; give the step."""
        position = resume_state(self.state, self.checkpoints, self._sayer(progress))
        if position is not None:
            self.batches = _batches(self.recipe, self.data, position["batches"])
            self.objective.running.values.update(position["running"])
        else:
            every, last = self.recipe.checkpoint.every, last_step(self.out / "metrics.jsonl")
            check_died_early(claim, every=every, steps=self.state.steps, last=last)
        return self.state.step

    def train(self, progress: Progress | None) -> None:
        """Make the steps that are left; moves come first among the hooks, and the checkpoint last."""
        recipe = self.recipe
        lines = JsonLines(self.out / "metrics.jsonl", after=self.state.step)
        hooks: list[Hook] = [
            (1, lambda state: self.objective.running.end_step()),
            (1, apply_moves(as_moves(recipe.moves), self._sample_loss, [])),
            (recipe.log_every, partial(self._log, lines, progress)),
            (recipe.evaluate_every, partial(self._measure, lines)),
        ]
        if progress is not None:
            progress.start("training", self.state.steps - self.state.step, "steps")
        with (
            Saver(self.checkpoints, background=recipe.checkpoint.background) as saver,
            heed_signals(tell=progress is not None) as asked,
        ):
            ends = [(recipe.checkpoint.every, saver.save), (1, stop_when_asked(asked, saver.save_now))]
            objective, update = self.objective.objective(), Update(recipe.schedule, recipe.clip)
            train_loop(self.state, self.batches, objective, update, [(1, saver.check), *hooks, *ends])
        if progress is not None:
            progress.finish()

    def finish(self, begun: int) -> MultitaskResult:
        """Save every task's model as a folder of its own, with the group's spec, and sum up."""
        tasks = []
        generation = {"bos_token_id": self.tokenizer.start, "eos_token_id": self.tokenizer.end}
        for name in self.recipe.tasks:
            model, place = self.group.member(name), self.out / "models" / name
            place.parent.mkdir(exist_ok=True)
            with durable_folder(place, overwrite=True) as draft:
                save_model(model, draft, generation=generation, tokenizer_files=self.tokenizer.files())
            tasks.append(self._result(name, str(place)))
        durable_file(self.out / "group.json", encode_group(self.group.spec))
        return MultitaskResult(
            out=str(self.out),
            tasks=tasks,
            parameters=sum(parameter.numel() for parameter in self.group.parameters()),
            apart=sum(task.parameters for task in tasks),
            steps=self.state.steps,
            resumed_from=begun,
            loss=self.state.recent_loss(self.recipe.log_every),
            seconds=self.state.seconds,
            tokens=self.state.tokens,
            moves=self.state.moves,
            remarks=self.remarks,
        )

    def _result(self, name: str, place: str) -> TaskResult:
        task, table = self.data[name], self.recipe.tasks[name]
        loss, right = measure(self.group.member(name), task.test)
        share, interval = (None, None) if right is None else accuracy(right.numpy(), seed=self.recipe.seed)
        labels = task.test.labels
        common = None if labels is None else int(labels.bincount().max()) / len(labels)
        return TaskResult(
            task=name,
            model=place,
            objective=table.objective,
            loss=loss,
            accuracy=share,
            interval=interval,
            most_frequent=common,
            texts=len(task.test),
            classes=len(task.names),
            parameters=sum(parameter.numel() for parameter in self.group.member(name).parameters()),
            data_hash=task.data_hash,
        )

    def _position(self) -> dict[str, Any]:
        running = dict(self.objective.running.values)
        return {"batches": self.batches.position, "running": running}

    def _sample_loss(self, state: TrainingState) -> float:
        """Give the mean over tasks of the loss on the first texts to measure on: what a move is reported with."""
        losses = []
        for name, task in self.data.items():
            losses.append(measure(self.group.member(name), task.test, most=1)[0])
        return sum(losses) / len(losses)

    def _log(self, lines: JsonLines, progress: Progress | None, state: TrainingState) -> None:
        figures = {"loss": state.recent_loss(self.recipe.log_every), "gradient_norm": state.gradient_norm}
        lines(state.step, {**figures, **{f"{name}.loss": loss for name, loss in self.objective.running.values.items()}})
        if progress is not None:
            progress.advance(state.step % self.recipe.log_every or self.recipe.log_every, loss=figures["loss"])

    def _measure(self, lines: JsonLines, state: TrainingState) -> None:
        figures: dict[str, float] = {}
        for name, task in self.data.items():
            loss, right = measure(self.group.member(name), task.test)
            figures[f"{name}.test_loss"] = loss
            if right is not None:
                figures[f"{name}.accuracy"] = right.double().mean().item()
        lines(state.step, figures)

    def _sayer(self, progress: Progress | None) -> Any:
        def say(text: str) -> None:
            self.remarks.append(text)
            if progress is not None:
                progress.say(text)

        return say


def assemble(recipe: MultitaskRecipe, out: Path) -> Run:
    """Build and check all parts before the first step."""
    trunk_spec(recipe, 1)
    texts = {name: read_texts(name, table) for name, table in recipe.tasks.items()}
    tokenizer = open_tokenizer(recipe, list(texts.values()), out / DATA / "tokenizer")
    trunk = trunk_spec(recipe, tokenizer.vocab)
    context = recipe.context or trunk.context
    if context > trunk.context:
        raise InputError("context", f"is {context}, the model's context is {trunk.context}", "shorten it")
    data = {name: encode_task(name, table, texts[name], tokenizer, context) for name, table in recipe.tasks.items()}
    spec = group_spec(recipe, trunk, {name: task.names for name, task in data.items()})
    check_moves(spec, recipe.moves, recipe.steps)
    torch.manual_seed(recipe.seed)
    group = ModelGroup(spec)
    initialise_group(group, recipe.seed)
    group.to(recipe.device)
    # What the loop asks of a model, a group has: its parameters by name, a device, training and evaluation.
    state = TrainingState(cast("LanguageModel", group), recipe.optimizer.build(trained_parameters(group)), recipe.steps)
    running = RunningLosses()
    ties = [SoftTie(soft, group, running.values, f"soft[{index}]") for index, soft in enumerate(recipe.soft)]
    objective = TaskObjective(
        {name: TASK_OBJECTIVES[table.objective] for name, table in recipe.tasks.items()},
        {name: table.weight for name, table in recipe.tasks.items()},
        [Penalty(f"soft tie {index}", tie.penalty) for index, tie in enumerate(ties)],
        running,
    )
    return Run(recipe, out, tokenizer, data, _batches(recipe, data, None), state, objective)


@torch.no_grad()
def measure(model: LanguageModel, rows: TaskRows, *, most: int | None = None) -> tuple[float, Tensor | None]:
    """Give the loss over all rows, or over ``most`` batches, and for labels which rows (N,) are answered right."""
    was_training = model.training
    model.eval()
    total, count = 0.0, 0
    right = None if rows.labels is None else torch.zeros(len(rows), dtype=torch.bool)
    for places, part in islice(by_length(rows, _READ_AT_ONCE), most):
        if right is None:
            term = OBJECTIVES["causal"].terms(model, part)["next_token"]
            total, count = total + term.sum.item(), count + term.count
            continue
        _, logits, nats = read_classes(model, part)
        total, count = total + nats.sum().item(), count + len(nats)
        right[places] = logits.argmax(-1).cpu() == part.targets
    model.train(was_training)
    return total / count, right


def _batches(recipe: MultitaskRecipe, data: dict[str, TaskData], position: dict[str, Any] | None) -> TaskBatches:
    loaders = {
        name: TaskLoader(
            task.train,
            batch=recipe.batch,
            seed=recipe.seed,
            position=None if position is None else position[f"task {name}"],
        )
        for name, task in data.items()
    }
    return TaskBatches(loaders, recipe.mode, 0 if position is None else position["turn"])

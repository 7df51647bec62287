"""What a training recipe may say: its tables as types, each with its limits.

A table for which there is a choice says ``kind = "..."``; ``from`` and ``spec`` say it by themselves.
"""

import re

import msgspec

from lamoid.assembly.bounds import MOST_CONTEXT, MOST_VOCAB, whole
from lamoid.assembly.families.shape import Shape
from lamoid.errors import InputError
from lamoid.recipes.objective_tables import AnyObjective, CausalTable
from lamoid.recipes.training_moves import AnyMove
from lamoid.training.optimizers import AdamWSpec, OptimizerSpec
from lamoid.training.schedule import MOST_STEPS, ScheduleSpec
from lamoid.training.state import Dtype


class ShapeModel(Shape, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="shape"):
    """A new model, described by a few numbers; ``vectors``, a file of word vectors, starts its token table."""

    vectors: str = ""

    def __post_init__(self) -> None:
        super().__post_init__()
        for name in ("width", "layers", "heads", "context"):
            whole(name, getattr(self, name), 1, MOST_CONTEXT)
        for name in ("kv_heads", "head_width", "hidden"):
            whole(name, getattr(self, name), 0, MOST_CONTEXT)


class SpecModel(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="spec"):
    """A new model, described in full by a ``.toml`` or ``.json`` file; its vocab must hold the tokenizer's.

    ``vectors``, a file of word vectors, starts its token table.
    """

    spec: str
    vectors: str = ""


class FolderModel(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="folder", rename={"from_": "from"}
):
    """A trained model to go on from."""

    from_: str


class CharactersTokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="characters"):
    """One token a character of the training text; ``closed`` refuses other characters instead of spelling bytes."""

    closed: bool = False
    vocab: int = 4096

    def __post_init__(self) -> None:
        whole("vocab", self.vocab, 2, MOST_VOCAB)


class BytesTokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bytes"):
    """Byte-level pairs learned from the training text."""

    vocab: int = 4096

    def __post_init__(self) -> None:
        whole("vocab", self.vocab, 257, MOST_VOCAB)


class FolderTokenizer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="folder", rename={"from_": "from"}
):
    """A tokenizer that exists: a folder or a tokenizer.json."""

    from_: str


class DataTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``train`` and ``validation``: text files, folders and globs, or one folder of prepared shards each.

    ``hold_out`` keeps the last share of the training text, counted in characters, for validation.
    """

    train: tuple[str, ...]
    validation: tuple[str, ...] = ()
    hold_out: float = 0.0
    separator: str | None = None
    field: str = "text"

    def __post_init__(self) -> None:
        if not self.train:
            raise InputError("train", "is empty", "name text files, or a folder of shards")
        if not 0.0 <= self.hold_out < 1.0:
            raise InputError("hold_out", f"is {self.hold_out}, must be at least 0 and below 1", "0.1 keeps a tenth")
        if self.hold_out and self.validation:
            raise InputError("hold_out", "is set beside validation", "choose one of the two")


class TrainingTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """How long and how much at once: a step reads ``batch`` x ``accumulation`` rows of ``context`` tokens.

    ``context`` 0 means the model's; ``clip`` bounds the gradients' joint norm, 0 means not.
    """

    steps: int
    batch: int = 16
    accumulation: int = 1
    context: int = 0
    clip: float = 1.0

    def __post_init__(self) -> None:
        whole("steps", self.steps, 1, MOST_STEPS)
        whole("batch", self.batch, 1, 1 << 20)
        whole("accumulation", self.accumulation, 1, 1 << 20)
        whole("context", self.context, 0, MOST_CONTEXT)
        if not 0.0 <= self.clip < float("inf"):
            raise InputError("clip", f"is {self.clip}, must be finite and at least 0", "0 switches clipping off")


class EvaluationTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Validation loss after each ``every`` steps (0: at the end only); ``keep_best`` saves the best model in best/."""

    every: int = 0
    batch: int = 64
    keep_best: bool = False

    def __post_init__(self) -> None:
        whole("every", self.every, 0, MOST_STEPS)
        whole("batch", self.batch, 1, 1 << 20)


class CheckpointTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint after each ``every`` steps and at the end (0: at the end only), of which the last ``keep`` stay."""

    every: int = 500
    keep: int = 2

    def __post_init__(self) -> None:
        whole("every", self.every, 0, MOST_STEPS)
        whole("keep", self.keep, 2, 10**6)


class LogTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Figures after each ``every`` steps; event files for TensorBoard and a curve as PNG where their extras are."""

    every: int = 10
    tensorboard: bool = True
    curve: bool = True

    def __post_init__(self) -> None:
        whole("every", self.every, 1, MOST_STEPS)


class TrainingRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training run: what is trained, on what, how long, by which rule, and what is kept.

    Without a ``tokenizer`` the model's own is taken, or the one that made the shards. ``moves`` change the model
    between two steps.
    """

    model: ShapeModel | SpecModel | FolderModel
    data: DataTable
    training: TrainingTable
    tokenizer: CharactersTokenizer | BytesTokenizer | FolderTokenizer | None = None
    objective: AnyObjective = CausalTable()
    optimizer: OptimizerSpec = AdamWSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    evaluation: EvaluationTable = EvaluationTable()
    checkpoint: CheckpointTable = CheckpointTable()
    log: LogTable = LogTable()
    moves: tuple[AnyMove, ...] = ()
    seed: int = 0
    device: str = "cpu"
    dtype: Dtype = "float32"

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0, 2**63 - 1)
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", self.device):
            raise InputError("device", f"is {self.device!r}, must be cpu, cuda or cuda:N", "name one of these")
        if self.schedule.warmup >= self.training.steps:
            problem = f"is {self.schedule.warmup}, not less than training.steps {self.training.steps}"
            raise InputError("schedule.warmup", problem, "shorten the warm-up")
        if isinstance(self.model, FolderModel) and self.tokenizer is not None:
            raise InputError("tokenizer", "is given, but a model to go on from brings its own", "leave it out")

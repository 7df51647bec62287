"""What a training recipe may say: its tables as types, each with its limits.

A table for which there is a choice says ``kind = "..."``; ``from`` and ``spec`` say it by themselves.
"""

import re

import msgspec

from lamoid.assembly.bounds import MOST_CONTEXT, MOST_VOCAB, at_least_zero, whole
from lamoid.assembly.families.shape import Shape
from lamoid.errors import InputError
from lamoid.recipes.log_table import LogTable
from lamoid.recipes.objective_tables import AnyObjective, CausalTable
from lamoid.recipes.row_objective import RowObjective
from lamoid.recipes.row_objectives import AnyRowObjective
from lamoid.recipes.rows_table import RowsTable
from lamoid.recipes.source_table import SourceTable, TextTable
from lamoid.recipes.training_adapter import AdapterTable, PathsTable
from lamoid.recipes.training_moves import AnyMove
from lamoid.text.training import MOST_SENTINELS
from lamoid.training.averages import AverageSpec
from lamoid.training.compute import ComputeSpec
from lamoid.training.guard import GuardSpec
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


class LearntTokenizer(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """``mask`` gives it BERT's control tokens, ``sentinels`` so many of those that T5 puts for what is cut out."""

    vocab: int = 4096
    mask: bool = False
    sentinels: int = 0

    def __post_init__(self) -> None:
        whole("vocab", self.vocab, 2, MOST_VOCAB)
        whole("sentinels", self.sentinels, 0, MOST_SENTINELS)


class CharactersTokenizer(LearntTokenizer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="characters"):
    """One token a character of the training text; ``closed`` refuses other characters instead of spelling bytes."""

    closed: bool = False


class BytesTokenizer(LearntTokenizer, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="bytes"):
    """Byte-level pairs learned from the training text."""

    def __post_init__(self) -> None:
        super().__post_init__()
        whole("vocab", self.vocab, 257, MOST_VOCAB)


class FolderTokenizer(
    msgspec.Struct, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="folder", rename={"from_": "from"}
):
    """A tokenizer that exists: a folder or a tokenizer.json."""

    from_: str


class DataTable(TextTable, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="text"):
    """One source of text, or several by name in ``sources``, which are mixed by weight."""

    sources: dict[str, SourceTable] = msgspec.field(default_factory=dict)

    def __post_init__(self) -> None:
        if not self.sources:
            super().__post_init__()
        elif self.train or self.validation or self.hold_out:
            cure = "name every text under data.sources, or leave sources out"
            raise InputError("sources", "stands beside train, validation or hold_out", cure)
        for name in self.sources:
            if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
                problem = f"has the name {name[:80]!r}"
                raise InputError("sources", problem, "use 1 to 64 letters, digits, - and _: folders are called so")

    @property
    def has_validation(self) -> bool:
        """Say whether any text is kept to measure on."""
        return any(table.validation or table.hold_out for table in (self, *self.sources.values()))


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
    """Validation loss after each ``every`` steps (0: at the end only); ``keep_best`` saves the best model in best/.

    After ``patience`` losses in a row that were not lower than the lowest by more than ``least_gain`` the run ends; 0
    lets it go on to its last step.
    """

    every: int = 0
    batch: int = 64
    keep_best: bool = False
    patience: int = 0
    least_gain: float = 0.0

    def __post_init__(self) -> None:
        whole("patience", self.patience, 0, MOST_STEPS)
        at_least_zero("least_gain", self.least_gain)
        whole("every", self.every, 0, MOST_STEPS)
        whole("batch", self.batch, 1, 1 << 20)


class CheckpointTable(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A checkpoint after each ``every`` steps and at the end (0: at the end only), of which the last ``keep`` stay.

    ``background``: a copy of the state is written while the training goes on.
    """

    every: int = 500
    keep: int = 2
    background: bool = True

    def __post_init__(self) -> None:
        whole("every", self.every, 0, MOST_STEPS)
        whole("keep", self.keep, 2, 10**6)


class TrainingRecipe(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One training run: what is trained, on what, how long, by which rule, and what is kept.

    Without a ``tokenizer`` the model's own is taken, or the one that made the shards. ``moves`` change the model
    between two steps.
    """

    model: ShapeModel | SpecModel | FolderModel
    data: DataTable | RowsTable
    training: TrainingTable
    tokenizer: CharactersTokenizer | BytesTokenizer | FolderTokenizer | None = None
    objective: AnyObjective | AnyRowObjective = CausalTable()
    optimizer: OptimizerSpec = AdamWSpec()
    schedule: ScheduleSpec = ScheduleSpec()
    average: AverageSpec | None = None
    evaluation: EvaluationTable = EvaluationTable()
    checkpoint: CheckpointTable = CheckpointTable()
    guard: GuardSpec = GuardSpec()
    log: LogTable = LogTable()
    moves: tuple[AnyMove, ...] = ()
    adapter: AdapterTable | None = None
    freeze: PathsTable | None = None
    train_only: PathsTable | None = None
    seed: int = 0
    device: str = "cpu"
    dtype: Dtype = "float32"
    compute: ComputeSpec = ComputeSpec()

    def __post_init__(self) -> None:
        whole("seed", self.seed, 0, 2**63 - 1)
        if isinstance(self.objective, RowObjective) != isinstance(self.data, RowsTable):
            needed = "rows" if isinstance(self.objective, RowObjective) else "text"
            problem = f"does not go with the objective, which learns from {needed}"
            raise InputError("data.kind", problem, f'say data.kind = "{needed}", or name another objective')
        if not re.fullmatch(r"cpu|cuda(:\d{1,3})?", self.device):
            raise InputError("device", f"is {self.device!r}, must be cpu, cuda or cuda:N", "name one of these")
        if self.dtype == "float16" and self.device == "cpu":
            raise InputError("dtype", "is 'float16', which is for CUDA devices", "take bfloat16, or name a CUDA device")
        self.schedule.check(self.training.steps, "training.steps")
        self._check_parts()
        if isinstance(self.model, FolderModel) and self.tokenizer is not None:
            raise InputError("tokenizer", "is given, but a model to go on from brings its own", "leave it out")

    def _check_parts(self) -> None:
        """Refuse more than one way to say what is trained, and moves beside any."""
        ways = {"adapter": self.adapter, "freeze": self.freeze, "train_only": self.train_only}
        said = [name for name, way in ways.items() if way is not None]
        if len(said) > 1:
            raise InputError(said[1], f"is set beside {said[0]}", "choose one of the two; an adapter freezes all else")
        if said and self.moves:
            raise InputError("moves", f"are set beside {said[0]}", "change the model in a run before or after this one")
        if self.adapter is not None and not isinstance(self.model, FolderModel):
            raise InputError("adapter", "is for a model that was trained", "name one as model.from")

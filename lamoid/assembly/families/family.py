"""What a family is: functions between a Hugging Face configuration and a spec, and a table of tensor names."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from typing import Any

from lamoid.assembly.families.fields import Fields
from lamoid.assembly.families.sizes import Sizes
from lamoid.assembly.paths import part_at
from lamoid.assembly.spec import HeadSpec, ModelSpec
from lamoid.errors import InputError


@dataclass(frozen=True)
class Rename:
    """One tensor of the family's files: ``theirs`` is ``ours`` joined along rows, then transposed if so declared.

    With ``by_head`` the rows are joined head by head, as GPT-NeoX has queries, keys and values. In a family's table a
    row is a pattern: ``{}`` stands for a number, as often as the path has one, and the endings ``.weight`` and
    ``.bias`` are left out. A row with ``beside`` holds only where the model has a part of that name too, and stands
    before the row that holds elsewhere. ``also`` are whole names, endings too, under which the files hold it once more:
    written, and not read. ``heads`` is filled in when a row is written out for a model.
    """

    ours: tuple[str, ...]
    theirs: str
    transposed: bool = False
    by_head: bool = False
    heads: int = 1
    beside: str | None = None
    also: tuple[str, ...] = ()


@dataclass(frozen=True)
class Architecture:
    """One of a family's classes: the trunk with certain heads.

    ``heads`` reads the heads from a configuration; ``words`` writes the fields that say them, or gives ``None`` where
    the spec has other heads. ``prefix`` is the trunk's name in its files where it is not the family's own.
    """

    name: str
    heads: Callable[[Fields], dict[str, HeadSpec]]
    words: Callable[[ModelSpec], dict[str, Any] | None]
    prefix: str | None = None


Reader = Callable[[Fields, Architecture], ModelSpec]
Written = dict[str, Any]
NumberedName = tuple[Rename, tuple[str, ...]]


@dataclass(frozen=True)
class Family:
    """A model family of Hugging Face.

    ``reader`` reads a configuration and asks the architecture for the heads. ``config`` writes the trunk's fields for a
    spec, or gives ``None`` where the spec is of another build; whether it reads back equal is checked by ``written``.
    ``table`` names every tensor of every architecture: rows whose parameter a model lacks are passed over. The trunk's
    ``prefix`` may be absent from a file's names. Names that match ``ignored``, and are no parameter's, are buffers that
    carry no weights; those of one group in ``copies`` are names of one and the same tensor, of which a file may hold
    any, if they are equal. ``former`` pairs endings of names in old files with today's.
    ``sizes`` writes the few numbers of a ``Shape`` as a configuration. The first architecture is the default.
    """

    model_type: str
    architectures: tuple[Architecture, ...]
    reader: Reader
    config: Callable[[ModelSpec], dict[str, Any] | None]
    table: tuple[Rename, ...]
    prefix: str
    sizes: Callable[[Sizes, int], dict[str, Any]]
    ignored: tuple[str, ...] = ()
    copies: tuple[tuple[str, ...], ...] = ()
    former: tuple[tuple[str, str], ...] = ()

    def architecture(self, config: Mapping[str, Any], file: str = "config.json") -> Architecture:
        """Find the class that a configuration names, the default one if it names none."""
        named = config.get("architectures")
        if named is None or named == []:
            return self.architectures[0]
        name = named[0] if isinstance(named, list) else named
        for architecture in self.architectures:
            if architecture.name == name:
                return architecture
        known = ", ".join(architecture.name for architecture in self.architectures)
        problem = f"{str(name)[:80]!r} is not a known class of the family {self.model_type}"
        raise InputError(f"{file}: architectures", problem, f"Known are {known}")

    def spec(
        self, config: Mapping[str, Any], file: str = "config.json", ignore: Collection[str] = frozenset()
    ) -> ModelSpec:
        """Read a configuration; an ``InputError`` names ``file`` and field. Unknown fields may be ignored by name."""
        fields = Fields(config, file, ignore)
        try:
            spec = self.reader(fields, self.architecture(config, file))
            fields.seen -= INERT
            fields.finish(INERT)
        except InputError as error:
            if error.culprit.startswith(file):
                raise
            raise InputError(f"{file}: {error.culprit}", error.problem, error.cure) from error
        return spec

    def written(self, spec: ModelSpec) -> tuple[Architecture, Written] | None:
        """Write the configuration that reads back as ``spec``, with its class; ``None`` if it is no such model."""
        trunk = self.config(spec)
        if trunk is None:
            return None
        for architecture in self.architectures:
            heads = architecture.words(spec)
            if heads is None:
                continue
            config = {"architectures": [architecture.name], "model_type": self.model_type, **trunk, **heads}
            try:
                if self.spec(config) == spec:
                    return architecture, config
            except InputError:
                continue  # a spec may hold more than this family's words can say
        return None

    def renames(self, spec: ModelSpec, dimensions: Mapping[str, int], architecture: Architecture) -> tuple[Rename, ...]:
        """Write the table out for a model's parameters, which are given with their numbers of dimensions."""
        rows, parts = _by_blurred_name(self.table), {name.rpartition(".")[0] for name in dimensions}
        listed = []
        for name in dimensions:
            stem, _, end = name.rpartition(".")
            row, numbers = _find_row(rows, stem, parts) or (None, ())
            if row is None:
                continue
            ours = tuple(f"{pattern.format(*numbers)}.{end}" for pattern in row.ours)
            theirs = self._prefixed(f"{row.theirs.format(*numbers)}.{end}", architecture)
            again = (pattern.format(*numbers) for pattern in row.also if pattern.endswith(f".{end}"))
            also = tuple(self._prefixed(pattern, architecture) for pattern in again)
            turned = row.transposed and dimensions[name] == 2
            heads = part_at(spec, stem.rpartition(".")[0]).heads if row.by_head else 1
            listed.append(Rename(ours, theirs, turned, row.by_head, heads, also=also))
        return tuple(listed)

    def file_name(self, name: str, architecture: Architecture) -> str | None:
        """Give what the files call a parameter that lies there by itself; ``None`` if the table does not know it."""
        stem, _, end = name.rpartition(".")
        row, numbers = _find_row(_by_blurred_name(self.table), stem) or (None, ())
        return None if row is None else self._prefixed(f"{row.theirs.format(*numbers)}.{end}", architecture)

    def prefix_of(self, architecture: Architecture) -> str:
        """Give the trunk's name in the files of a class."""
        return self.prefix if architecture.prefix is None else architecture.prefix

    def _prefixed(self, theirs: str, architecture: Architecture) -> str:
        if architecture.prefix is None or not theirs.startswith(self.prefix):
            return theirs
        return architecture.prefix + theirs.removeprefix(self.prefix)


def _by_blurred_name(table: tuple[Rename, ...]) -> dict[str, list[Rename]]:
    """Sort a table by its rows' first names, every number in them made {}: a large model has very many names."""
    rows: dict[str, list[Rename]] = {}
    for row in table:
        rows.setdefault(_blurred(row.ours[0]), []).append(row)
    return rows


def _blurred(name: str) -> str:
    return ".".join("{}" if piece.isdigit() else piece for piece in name.split("."))


def _find_row(rows: Mapping[str, list[Rename]], stem: str, parts: Collection[str] = ()) -> NumberedName | None:
    """Find the first row of a parameter that holds beside the model's ``parts``, and the numbers for its {}."""
    pieces = stem.split(".")
    for row in rows.get(_blurred(stem), ()):
        pairs = list(zip(row.ours[0].split("."), pieces, strict=True))
        if not all(piece in ("{}", found) for piece, found in pairs):
            continue
        numbers = tuple(found for piece, found in pairs if piece == "{}")
        if row.beside is None or row.beside.format(*numbers) in parts:
            return row, numbers
    return None


INERT = frozenset(
    {
        "_attn_implementation_autoset",
        "_name_or_path",
        "_num_labels",
        "architectures",
        "attention_dropout",
        "attention_probs_dropout_prob",
        "attn_pdrop",
        "bos_token_id",
        "cache_implementation",
        "chunk_size_feed_forward",
        "classifier_dropout",
        "dtype",
        "embd_pdrop",
        "eos_token_id",
        "finetuning_task",
        "gradient_checkpointing",
        "hidden_dropout",
        "hidden_dropout_prob",
        "id2label",
        "initializer_range",
        "label2id",
        "language",
        "model_type",
        "n_ctx",
        "num_labels",
        "output_attentions",
        "output_hidden_states",
        "output_past",
        "pad_token_id",
        "prefix",
        "pretraining_tp",
        "problem_type",
        "reorder_and_upcast_attn",
        "resid_pdrop",
        "return_dict",
        "sep_token_id",
        "summary_activation",
        "summary_first_dropout",
        "summary_proj_to_labels",
        "summary_type",
        "summary_use_proj",
        "task_specific_params",
        "tie_word_embeddings",
        "tokenizer_class",
        "torch_dtype",
        "torchscript",
        "transformers_version",
        "unsloth_fixed",
        "unsloth_version",
        "use_cache",
    }
)

"""Adapters: a few numbers beside a linear map, trained while the map stays (LoRA, Hu et al., 2021, and its kin).

An adapter adds factor x widen(narrow(x)) to what its base answers. The factor is alpha / rank, or alpha / sqrt(rank)
(rsLoRA, Kalajdzievski, 2023). DoRA (Liu et al., 2024) gives each row of the changed matrix a length of its own.
"""

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Literal

import msgspec
import torch
from torch import Tensor, nn

from lamoid.assembly.batch import Batch
from lamoid.assembly.bounds import MOST_WIDTH, whole
from lamoid.errors import InputError

STREAM = "adapter"
MOST_ADAPTERS = 1000
_NAME = re.compile(r"[A-Za-z0-9_-]{1,64}")
Rows = Tensor | None
Group = tuple[Rows, Mapping[str, float]]


class LowRankSpec(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What all adapters say: a ``name``, the ``rank`` of the product of two matrices, and how much it counts.

    ``scale`` "rank" divides ``alpha`` by the rank, "root" by its square root. ``dropout`` is the share of inputs that
    the adapter does not see while it is trained.
    """

    name: str
    rank: int
    alpha: float
    scale: Literal["rank", "root"] = "rank"
    dropout: float = 0.0

    has_magnitude: ClassVar[bool] = False

    def __post_init__(self) -> None:
        check_name("adapter.name", self.name)
        whole("adapter.rank", self.rank, 1, MOST_WIDTH)
        if not math.isfinite(self.alpha) or abs(self.alpha) > 1e6:
            raise InputError(
                "adapter.alpha", f"is {self.alpha}, must be finite and within 1e6", "often 2 x rank is taken"
            )
        if not 0.0 <= self.dropout < 1.0:
            raise InputError("adapter.dropout", f"is {self.dropout}, must be at least 0 and below 1", "0 drops nothing")

    @property
    def factor(self) -> float:
        """What the product of the two matrices is multiplied by."""
        return self.alpha / (math.sqrt(self.rank) if self.scale == "root" else self.rank)

    def build(self, inputs: int, outputs: int) -> "LowRank":
        """Make the module, its weights not yet set."""
        return LowRank(self, inputs, outputs)

    def parameters(self, inputs: int, outputs: int) -> int:
        """Count the stored numbers."""
        return self.rank * (inputs + outputs) + (outputs if self.has_magnitude else 0)

    def flops(self, inputs: int, outputs: int) -> int:
        """Count the operations for one token, a multiply-add as two; what is done once a pass is left out."""
        return 2 * self.rank * (inputs + outputs)


class LoraSpec(LowRankSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="lora"):
    """W + factor x widen narrow."""


class DoraSpec(LowRankSpec, frozen=True, forbid_unknown_fields=True, tag_field="kind", tag="dora"):
    """The rows of W + factor x widen narrow, each brought to a length that is trained."""

    has_magnitude: ClassVar[bool] = True


AdapterSpec = LoraSpec | DoraSpec


def check_name(culprit: str, name: str) -> None:
    """Raise ``InputError`` for what an adapter cannot be called: names become those of folders."""
    if not _NAME.fullmatch(name):
        raise InputError(culprit, f"is {name[:80]!r}", "use 1 to 64 letters, digits, _ and -")


def check_adapters(adapters: Sequence[AdapterSpec], least: int) -> None:
    """Refuse two adapters of one name on one map, and too many or few."""
    whole("number of adapters", len(adapters), least, MOST_ADAPTERS)
    names = [adapter.name for adapter in adapters]
    double = next((name for name in names if names.count(name) > 1), None)
    if double is not None:
        raise InputError("adapters", f"has two of the name {double!r}", "call one of them otherwise")


class LowRank(nn.Module):
    """``narrow`` (R, inputs), ``widen`` (outputs, R) and for DoRA ``magnitude`` (outputs,)."""

    def __init__(self, spec: AdapterSpec | LowRankSpec, inputs: int, outputs: int) -> None:
        super().__init__()
        self.name, self.factor, self.dropout = spec.name, spec.factor, spec.dropout
        self.narrow = nn.Parameter(torch.empty(spec.rank, inputs))
        self.widen = nn.Parameter(torch.empty(outputs, spec.rank))
        self.magnitude = nn.Parameter(torch.empty(outputs)) if spec.has_magnitude else None

    def forward(self, x: Tensor, answer: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Give what is to be added to ``answer`` = x W^T + b, (..., outputs)."""
        seen = nn.functional.dropout(x, self.dropout, self.training) if self.dropout else x
        low = nn.functional.linear(nn.functional.linear(seen, self.narrow), self.widen) * self.factor
        if self.magnitude is None:
            return low
        bare = answer if bias is None else answer - bias
        if seen is not x:
            bare = nn.functional.linear(seen, weight)
        # The length is held fixed in the gradient, as section 4.3 of the paper says.
        share = (self.magnitude / self.lengths(weight)).to(low.dtype)
        return (share - 1.0) * bare + share * low

    @torch.no_grad()
    def start(self, weight: Tensor) -> None:
        """Give DoRA's rows the lengths that they have, so that a fresh adapter changes nothing."""
        if self.magnitude is not None:
            self.magnitude.copy_(self.lengths(weight))

    def product(self) -> Tensor:
        """Give factor x widen narrow, (outputs, inputs), in float32 or wider."""
        return (self.widen.to(wide(self.widen)) @ self.narrow.to(wide(self.narrow))) * self.factor

    @torch.no_grad()
    def lengths(self, weight: Tensor) -> Tensor:
        """Give the length of each row of the changed matrix, (outputs,), in float32 or wider; 1 for a row of zeros."""
        found = torch.linalg.vector_norm(weight.to(wide(weight)) + self.product(), dim=1)
        return torch.where(found > 0, found, 1.0)

    @torch.no_grad()
    def difference(self, weight: Tensor) -> Tensor:
        """Give by how much the matrix (outputs, inputs) is changed, in float32 or wider."""
        if self.magnitude is None:
            return self.product()
        whole_weight = weight.to(wide(weight))
        share = self.magnitude.to(whole_weight.dtype) / self.lengths(weight)
        return share[:, None] * (whole_weight + self.product()) - whole_weight


class Choice:
    """Which adapters read: those of ``active`` with their weights, or another one for each row of a batch.

    One object belongs to a model and to all its adapted parts. ``names`` are the model's adapters; in a batch's stream
    ``adapter`` they are numbered from 1, and 0 is none.
    """

    def __init__(self, names: Sequence[str] = ()) -> None:
        self.names = tuple(names)
        self.active: Mapping[str, float] = dict.fromkeys(self.names[:1], 1.0)
        self.groups: tuple[Group, ...] | None = None
        self.rows = 0

    def use(self, weights: Mapping[str, float]) -> None:
        """Let these adapters read from now on, each difference times its weight; none of them leaves the base."""
        self.check(weights)
        self.active = {name: float(weight) for name, weight in weights.items() if weight}

    def check(self, weights: Mapping[str, float]) -> None:
        """Raise ``InputError`` for an adapter that the model has not and a weight that is no finite number."""
        for name, weight in weights.items():
            if name not in self.names:
                known = ", ".join(self.names) or "none"
                raise InputError("adapter", f"{name[:80]!r} is not on this model", f"there is: {known}")
            if not math.isfinite(weight):
                raise InputError(f"weight of adapter {name}", f"is {weight}", "give a finite number")

    def turn_to(self, batch: Batch) -> None:
        """Follow a batch: its stream ``adapter``, the same number at each place of a row, or else the active ones."""
        self.groups = None
        if STREAM not in batch.streams:
            return
        stream = batch.stream(STREAM)
        numbers = [int(number) for number in stream[:, 0].tolist()]
        culprit = f"batch.streams.{STREAM}"
        if bool((stream != stream[:, :1]).any()):
            raise InputError(culprit, "changes within a row", "give each row one adapter")
        wrong = next((number for number in numbers if not 0 <= number <= len(self.names)), None)
        if wrong is not None:
            problem = f"holds {wrong}, the model has {len(self.names)} adapters"
            raise InputError(culprit, problem, "number them from 1; 0 is none")
        self.rows = len(numbers)
        chosen = sorted(set(numbers))
        self.groups = tuple((self._where(numbers, number, stream.device), self._weights(number)) for number in chosen)

    def grouped(self, x: Tensor) -> Iterator[Group]:
        """Give each group of rows of ``x`` with the weights of its adapters; ``None`` stands for all rows."""
        if self.groups is None:
            yield None, self.active
            return
        if len(self.groups) > 1 and (x.ndim < 3 or len(x) != self.rows):
            problem = "are read by several adapters, and this part is not given them row by row"
            cure = "take the adapter off experts and heads, or give the rows of each adapter by themselves"
            raise InputError("rows of the batch", problem, cure)
        yield from self.groups

    def _weights(self, number: int) -> Mapping[str, float]:
        return {self.names[number - 1]: 1.0} if number else {}

    def _where(self, numbers: list[int], number: int, device: torch.device) -> Rows:
        found = [row for row, other in enumerate(numbers) if other == number]
        return None if len(found) == len(numbers) else torch.tensor(found, device=device)


class Adapters(nn.ModuleList):
    """The adapters of one linear map; which of them read says the model's ``choice``."""

    def __init__(self, specs: Sequence[AdapterSpec], inputs: int, outputs: int) -> None:
        super().__init__(spec.build(inputs, outputs) for spec in specs)
        self.choice = Choice([spec.name for spec in specs])

    @property
    def parts(self) -> Iterator[LowRank]:
        """Give the adapters one by one."""
        return (part for part in self if isinstance(part, LowRank))

    def forward(self, x: Tensor, answer: Tensor, weight: Tensor, bias: Tensor | None) -> Tensor:
        """Give ``answer`` = x W^T + b with what the chosen adapters add, rows of one adapter together."""
        changed = answer
        for rows, weights in self.choice.grouped(x):
            for part in self.parts:
                share = weights.get(part.name, 0.0)
                if not share:
                    continue
                own_x, own = (x, answer) if rows is None else (x[rows], answer[rows])
                more = part(own_x, own, weight, bias)
                more = more if share == 1.0 else share * more
                changed = changed + more if rows is None else changed.index_add(0, rows, more.to(changed.dtype))
        return changed

    @torch.no_grad()
    def merged(self, weight: Tensor, weights: Mapping[str, float]) -> Tensor:
        """Give the matrix that answers as ``weight`` with these adapters, rounded to its own dtype once."""
        total = weight.to(wide(weight))
        for part in self.parts:
            if weights.get(part.name):
                total = total + weights[part.name] * part.difference(weight)
        return total.to(weight.dtype)


def connect(model: nn.Module, active: Mapping[str, float] | None = None) -> Choice:
    """Give all adapted parts of a model one choice among all its adapters."""
    parts = [part for part in model.modules() if isinstance(part, Adapters)]
    choice = Choice(list(dict.fromkeys(each.name for part in parts for each in part.parts)))
    if active is not None:
        choice.use({name: weight for name, weight in active.items() if name in choice.names})
    for part in parts:
        part.choice = choice
    return choice


def wide(tensor: Tensor) -> torch.dtype:
    """Give the dtype to compute in: float32 or wider."""
    return torch.promote_types(tensor.dtype, torch.float32)

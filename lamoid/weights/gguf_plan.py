"""Plans a model's GGUF file: which tensors of which shapes, of which parameters each is made, and what is refused."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor

from lamoid.assembly.attention import AttentionSpec
from lamoid.assembly.block import BlockSpec
from lamoid.assembly.experts import ExpertsSpec
from lamoid.assembly.families.table import family_of
from lamoid.assembly.families.windows import window_of
from lamoid.assembly.feedforward import GatedSpec
from lamoid.assembly.heads import NextTokenSpec
from lamoid.assembly.norm import RMSNormSpec
from lamoid.assembly.position import LongRopeScalingSpec, RotarySpec, YarnScalingSpec
from lamoid.assembly.spec import ModelSpec
from lamoid.errors import InputError
from lamoid.weights.folder import ModelFolder
from lamoid.weights.gguf_families import ARCHES, Arch
from lamoid.weights.gguf_kinds import F16, F32, Q8_0, TensorKind
from lamoid.weights.gguf_write import GgufInfo
from lamoid.weights.names import TABLE, parameter_shapes

CHUNK = 1 << 20
STAYS = "Keep it in Hugging Face's layout, which llama.cpp's own convert_hf_to_gguf.py reads too"
_STEP = 4  # llama.cpp's graph of SmolLM3 knows no other


@dataclass(frozen=True)
class Planned:
    """A tensor to write: ``parameters`` joined along their rows, each with its rows in ``heads`` pairs of halves.

    ``heads`` 0 leaves the rows in their order.
    """

    info: GgufInfo
    parameters: tuple[str, ...]
    heads: int = 0


@dataclass(frozen=True)
class Plan:
    """What a model's file will hold, but for the metadata; ``context`` is how long a text may be there."""

    arch: Arch
    mixer: AttentionSpec
    feedforward: GatedSpec
    experts: ExpertsSpec | None
    rotary: RotarySpec
    epsilon: float
    context: int
    tensors: tuple[Planned, ...]
    remarks: tuple[str, ...]


def plan_file(folder: ModelFolder, kind: TensorKind) -> Plan:
    """Plan the file of a model folder with its matrices in ``kind``. Raise InputError for what llama.cpp cannot run."""
    spec, culprit = folder.spec, str(folder.path)
    kin = family_of(spec, folder.family)
    arch = None if kin is None else ARCHES.get(kin.family.model_type)
    if kin is None or arch is None:
        name = "of no family that llama.cpp has" if kin is None else f"a {kin.family.model_type}"
        problem = f"it is {name}, and Lamoid writes GGUF for {', '.join(ARCHES)}"
        raise InputError(culprit, problem, "Assemble it as one of these" if kin is None else STAYS)
    head = spec.heads.get("next_token")
    if not isinstance(head, NextTokenSpec) or len(spec.heads) != 1:
        raise InputError(culprit, f"its heads are {', '.join(spec.heads)}, not next_token alone", STAYS)
    blocks = [block for block in spec.blocks if isinstance(block, BlockSpec)]
    mixers = [block.mixer for block in blocks if isinstance(block.mixer, AttentionSpec)]
    mixer, feedforward, experts = mixers[0], blocks[0].feedforward, None
    if isinstance(feedforward, ExpertsSpec):
        feedforward, experts = feedforward.experts[0], feedforward
    if not isinstance(spec.norm, RMSNormSpec):
        raise RuntimeError(f"a {arch.name} whose norm is {spec.norm}")
    if not isinstance(feedforward, GatedSpec) or feedforward.activation != "silu":
        raise InputError(culprit, "its feed-forward is not gated by silu, as llama.cpp's graph is", STAYS)
    rotary = _rotary(culprit, arch, mixers)
    _check_width(culprit, arch, spec, mixer)
    context, remarks = _context(spec, mixers)
    tensors, fallen = _tensors(culprit, arch, spec, mixer, kind)
    if isinstance(rotary.scaling, LongRopeScalingSpec):
        short = rotary.scaling.original_context
        remarks += (
            f"llama.cpp's texts match in a context of up to {short} tokens: it takes no heed of a text's length",
        )
    said = (*remarks, *fallen)
    return Plan(arch, mixer, feedforward, experts, rotary, spec.norm.epsilon, context, tensors, said)


def numbers_of(folder: ModelFolder, planned: Planned) -> Iterator[Tensor]:
    """Give a planned tensor's numbers in order, at most ``CHUNK`` of them or one head or row at a time.

    They are seen through the mapped file: no memory of the tensor's size is needed.
    """
    for name in planned.parameters:
        whole = folder.parameter(name, views=True)
        rows = whole.unsqueeze(1) if whole.ndim == 1 else whole
        if planned.heads:
            for head in rows.chunk(planned.heads):
                yield head.unflatten(0, (2, -1)).transpose(0, 1).reshape(-1)
        else:
            for part in rows.split(max(1, CHUNK // rows.shape[1])):
                yield part.reshape(-1)


def _rotary(culprit: str, arch: Arch, mixers: list[AttentionSpec]) -> RotarySpec:
    found = [mixer.position for mixer in mixers if isinstance(mixer.position, RotarySpec)]
    turned = [isinstance(mixer.position, RotarySpec) for mixer in mixers]
    due = [arch.name != "smollm3" or (layer + 1) % _STEP != 0 for layer in range(len(mixers))]
    if turned != due or not found:
        still = [layer for layer, is_turned in enumerate(turned) if not is_turned]
        problem = f"layers {still[:8]} know no positions, and in llama.cpp's graph of {arch.name} it is every {_STEP}th"
        raise InputError(culprit, problem, STAYS)
    scaling = found[0].scaling
    if not isinstance(scaling, arch.scalings):
        problem = f"its positions are scaled by {scaling.__struct_config__.tag}, which llama.cpp's {arch.name} lacks"
        raise InputError(culprit, problem, "Choose another scaling, or none")
    if isinstance(scaling, YarnScalingSpec) and not scaling.truncate:
        raise InputError(culprit, "its yarn scaling does not truncate, as llama.cpp's does", "Set truncate to true")
    if any(position != found[0] for position in found):
        raise InputError(culprit, "its layers turn by different angles", STAYS)
    return found[0]


def _check_width(culprit: str, arch: Arch, spec: ModelSpec, mixer: AttentionSpec) -> None:
    if arch.fills and mixer.inner != spec.width:
        problem = f"its heads have {mixer.inner} dimensions, llama.cpp's {arch.name} needs the width, {spec.width}"
        raise InputError(culprit, problem, STAYS)


def _context(spec: ModelSpec, mixers: list[AttentionSpec]) -> tuple[int, tuple[str, ...]]:
    """Give the context, no more than the smallest window: llama.cpp's graphs of these families have none."""
    windows = [window for mixer in mixers if (window := window_of(mixer)) is not None]
    context = min([spec.context, *windows])
    if context == spec.context:
        return context, ()
    remark = f"llama.cpp has no windows here: the context is cut from {spec.context} to the window's {context}"
    return context, (remark,)


def _tensors(
    culprit: str, arch: Arch, spec: ModelSpec, mixer: AttentionSpec, kind: TensorKind
) -> tuple[tuple[Planned, ...], tuple[str, ...]]:
    shapes = parameter_shapes(spec)
    made: dict[str, list[str]] = {}
    for name in shapes:
        made.setdefault(_name(culprit, arch, name), []).append(name)
    if arch.needs_output:
        made.setdefault("output.weight", [TABLE])
    planned, fallen = [], []
    for name, parameters in made.items():
        shape = _joined(name, [shapes[parameter] for parameter in parameters])
        own = _kind(name, shape, kind)
        if own is F16 and kind is Q8_0:
            fallen.append(name)
        heads = _heads(parameters[0], mixer) if arch.paired else 0
        planned.append(Planned(GgufInfo(name, own, shape), tuple(parameters), heads))
    rest = "" if len(fallen) < 2 else f" and {len(fallen) - 1} more"
    remarks = (f"{fallen[0]}{rest}: rows are no multiple of 32, kept in f16",) if fallen else ()
    return tuple(planned), remarks


def _name(culprit: str, arch: Arch, name: str) -> str:
    """Give what llama.cpp calls a parameter."""
    stem, _, end = name.rpartition(".")
    blurred = ".".join("{}" if piece.isdigit() else piece for piece in stem.split("."))
    if blurred not in arch.table:
        raise RuntimeError(f"the table of {arch.name} has no row for {name}")
    if end == "bias" and blurred not in arch.biased:
        raise InputError(culprit, f"{name} has no place in llama.cpp's graph of {arch.name}", STAYS)
    block = next((piece for piece in stem.split(".") if piece.isdigit()), "")
    return f"{arch.table[blurred].format(block)}.{end}"


def _joined(name: str, shapes: list[tuple[int, ...]]) -> tuple[int, ...]:
    if name.endswith("_exps.weight"):
        return (len(shapes), *shapes[0])
    return (sum(shape[0] for shape in shapes), *shapes[0][1:])


def _kind(name: str, shape: tuple[int, ...], kind: TensorKind) -> TensorKind:
    """Give the kind of a tensor: what llama.cpp's converter keeps in f32 stays so."""
    if len(shape) == 1 or name.endswith(("_norm.weight", "ffn_gate_inp.weight")):
        return F32
    return F16 if shape[-1] % kind.block else kind


def _heads(parameter: str, mixer: AttentionSpec) -> int:
    part = parameter.split(".")[-2]
    return {"query": mixer.heads, "key": mixer.kv_heads}.get(part, 0)

"""Says what is in an adapter's folder."""

from pathlib import Path
from typing import Annotated

import msgspec

from lamoid.weights.adapter import NARROW, open_adapter


class AdapterInfo(msgspec.Struct, frozen=True):
    """What an adapter is; ``base`` is what its folder calls the model that it was made for, which is not looked up."""

    adapter: str
    kind: str
    base: str | None
    parameters: int
    ranks: dict[str, int]
    alphas: dict[str, float]
    dropout: float
    whole: list[str]

    def lines(self) -> list[str]:
        """Give what a person reads."""
        ranks = sorted(set(self.ranks.values()))
        rank = " to ".join(dict.fromkeys(str(end) for end in (ranks[0], ranks[-1])))
        head = f"{self.adapter}: {self.kind} of rank {rank} on {len(self.ranks)} modules, {self.parameters} numbers"
        lines = [head, f"base: {self.base or 'not named'}"]
        ends = dict.fromkeys(module.rpartition(".")[2] for module in self.ranks)
        lines.append(f"on: {', '.join(ends)}")
        return lines + ([f"whole: {', '.join(self.whole[:20])}"] if self.whole else [])


def adapter_info(adapter: Annotated[Path, "Folder of an adapter, in peft's layout."]) -> AdapterInfo:
    """Show what an adapter is, and of which modules; its base is not needed.

    Raises ``InputError`` naming file and field or tensor for whatever cannot be read.
    """
    opened = open_adapter(adapter)
    config, tensors = opened.config, opened.tensors
    kind = "DoRA" if config.has_magnitude else "rsLoRA" if config.scale == "root" else "LoRA"
    return AdapterInfo(
        adapter=str(adapter),
        kind=kind if not (config.has_magnitude and config.scale == "root") else "DoRA with rsLoRA's scale",
        base=config.base,
        parameters=sum(info.elements for info in tensors.values()),
        ranks={module: tensors[names[NARROW]].shape[0] for module, names in opened.low_rank.items()},
        alphas={module: config.alpha_of(module) for module in opened.low_rank},
        dropout=config.dropout,
        whole=sorted(opened.whole),
    )

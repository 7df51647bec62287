"""Chooses the next token: greedy, or by chance from what penalty, temperature, top-k, top-p and min-p leave.

The steps come in Hugging Face's order and keep exactly the tokens that its processors keep, ties included.
"""

import hashlib
from collections.abc import Sequence

import torch
from torch import Tensor

from lamoid.errors import InputError
from lamoid.inference.request import Request, Settings


class Sampler:
    """Chooses the tokens of one text; its chances come from a generator of its own, whoever is written beside it.

    ``opening`` is what stands in the text already, the request's ids if not given.
    """

    def __init__(self, request: Request, opening: Sequence[int] | None = None) -> None:
        self.settings = request.settings
        self._ids = request.ids if opening is None else opening
        self._seen: Tensor | None = None
        self._generator = torch.Generator().manual_seed(_mix(request.settings.seed, request.copy))

    @property
    def is_plain(self) -> bool:
        """Does it take the likeliest token and look at nothing else?"""
        return self.settings.is_greedy and self.settings.repetition_penalty == 1

    def choose(self, logits: Tensor) -> int:
        """Choose a token by its (vocab) logits, in float32."""
        scores = logits.float()
        if self.settings.repetition_penalty != 1:
            scores = penalise(scores, self._mark(scores), self.settings.repetition_penalty)
        if self.settings.is_greedy:
            token = choose_likeliest(scores[None])[0]
        else:
            token = self._draw(distribution(scores, self.settings))
        if self._seen is not None:
            self._seen[token] = True
        return token

    def _mark(self, scores: Tensor) -> Tensor:
        """Give the (vocab) mask of tokens that stand in the text, the prompt included."""
        if self._seen is None:
            self._seen = torch.zeros_like(scores, dtype=torch.bool)
            self._seen[torch.tensor(self._ids, device=scores.device)] = True
        return self._seen

    def _draw(self, probabilities: Tensor) -> int:
        """Draw by the inverse of the cumulative probabilities: one random number a token, whatever the vocabulary."""
        heights = probabilities.double().cumsum(0)
        total = heights[-1].item()
        if not 0 < total < float("inf"):
            raise _no_numbers()
        level = torch.rand((), generator=self._generator, dtype=torch.float64).item() * total
        # Searched to the right, so that a token of probability 0, where the heights do not rise, is never met.
        token = int(torch.searchsorted(heights, level, right=True).item())
        return token if token < len(probabilities) else int(probabilities.nonzero()[-1].item())


def choose_likeliest(logits: Tensor) -> list[int]:
    """Choose the first likeliest token of each row of (B, vocab) logits."""
    tokens = logits.argmax(-1, keepdim=True)
    if not logits.gather(-1, tokens).isfinite().all():
        raise _no_numbers()
    return tokens[:, 0].tolist()


def choose(logits: Tensor, samplers: Sequence[Sampler]) -> list[int]:
    """Choose a token for each row of (B, vocab) logits by its sampler."""
    if all(sampler.is_plain for sampler in samplers):
        return choose_likeliest(logits.float())
    return [sampler.choose(row) for sampler, row in zip(samplers, logits, strict=True)]


def distribution(scores: Tensor, settings: Settings) -> Tensor:
    """Turn (vocab) logits into probabilities after temperature, top-k, top-p and min-p; what was left out has 0."""
    scores = scores / settings.temperature
    if settings.top_k:
        scores = keep_top_k(scores, settings.top_k)
    if settings.top_p < 1:
        scores = keep_top_p(scores, settings.top_p)
    if settings.min_p:
        scores = keep_min_p(scores, settings.min_p)
    return scores.softmax(-1)


def penalise(scores: Tensor, seen: Tensor, penalty: float) -> Tensor:
    """Make tokens that were ``seen`` less likely: divide their logit, or multiply it if negative (Keskar, 2019)."""
    return torch.where(seen, torch.where(scores < 0, scores * penalty, scores / penalty), scores)


def keep_top_k(scores: Tensor, count: int) -> Tensor:
    """Keep the ``count`` likeliest tokens and whatever is as likely as the last of them (Fan et al., 2018)."""
    least = scores.topk(min(count, len(scores))).values[-1]
    return scores.masked_fill(scores < least, -torch.inf)


def keep_top_p(scores: Tensor, mass: float) -> Tensor:
    """Keep the fewest likeliest tokens that hold ``mass`` of the probability (Holtzman et al., 2020)."""
    rising, order = scores.sort()
    drop = rising.softmax(-1).cumsum(-1) <= 1 - mass
    drop[-1] = False
    return scores.masked_fill(torch.zeros_like(drop).scatter(0, order, drop), -torch.inf)


def keep_min_p(scores: Tensor, share: float) -> Tensor:
    """Keep tokens of at least ``share`` of the likeliest one's probability (Nguyen et al., 2024, arXiv 2407.01082)."""
    probabilities = scores.softmax(-1)
    return scores.masked_fill(probabilities < share * probabilities.max(), -torch.inf)


def _mix(seed: int, copy: int) -> int:
    """Give 63 bits for a seed and a copy's number, so that neighbouring ones have nothing in common."""
    return int.from_bytes(hashlib.sha256(f"{seed}/{copy}".encode()).digest()[:8]) >> 1


def _no_numbers() -> InputError:
    problem = "gave logits that are not finite numbers, so no token is the likeliest"
    return InputError("model", problem, "check its weights for NaN, or load it with dtype float32")

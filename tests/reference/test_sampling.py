"""Filtered distributions equal those of transformers': the same tokens, the same probabilities, ties included."""

import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    MinPLogitsWarper,
    RepetitionPenaltyLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from lamoid.inference.request import Settings
from lamoid.inference.sampler import distribution, penalise

SETTINGS = [
    Settings(temperature=0.7),
    Settings(temperature=1.0, top_k=1),
    Settings(temperature=1.0, top_k=5),
    Settings(temperature=1.0, top_k=10**9),
    Settings(temperature=1.0, top_p=0.9),
    Settings(temperature=1.0, top_p=1e-9),
    Settings(temperature=1.0, top_p=0.5),
    Settings(temperature=1.0, min_p=0.1),
    Settings(temperature=1.0, min_p=1.0),
    Settings(temperature=1.0, repetition_penalty=1.3),
    Settings(temperature=1.3, top_k=40, top_p=0.8, min_p=0.05, repetition_penalty=0.8),
    Settings(temperature=0.3, top_k=3, top_p=0.99, min_p=0.2, repetition_penalty=1.1),
]
LOGITS = {
    "smooth": lambda: torch.randn(1000) * 3,
    "tied": lambda: torch.randint(-3, 4, (1000,)).float(),
    "all equal": lambda: torch.zeros(64),
    "bf16": lambda: (torch.randn(1000) * 3).bfloat16(),
    "with -inf": lambda: torch.where(torch.rand(200) < 0.5, -torch.inf, torch.randn(200)),
}


def theirs(settings: Settings) -> LogitsProcessorList:
    steps = LogitsProcessorList()
    if settings.repetition_penalty != 1:
        steps.append(RepetitionPenaltyLogitsProcessor(settings.repetition_penalty))
    steps.append(TemperatureLogitsWarper(settings.temperature))
    if settings.top_k:
        steps.append(TopKLogitsWarper(settings.top_k))
    if settings.top_p < 1:
        steps.append(TopPLogitsWarper(settings.top_p))
    if settings.min_p:
        steps.append(MinPLogitsWarper(settings.min_p))
    return steps


@pytest.mark.parametrize("kind", LOGITS)
@pytest.mark.parametrize("settings", SETTINGS, ids=str)
def test_probabilities_equal_transformers(settings: Settings, kind: str) -> None:
    for seed in range(5):
        torch.manual_seed(seed)
        logits = LOGITS[kind]()
        ids = torch.randint(len(logits), (12,))
        wanted = theirs(settings)(ids[None], logits.float()[None])[0].softmax(-1)  # type: ignore[arg-type]
        seen = torch.zeros(len(logits), dtype=torch.bool)
        seen[ids] = True
        scores = logits.float()
        if settings.repetition_penalty != 1:
            scores = penalise(scores, seen, settings.repetition_penalty)
        ours = distribution(scores, settings)
        assert torch.equal(ours > 0, wanted > 0)
        torch.testing.assert_close(ours, wanted, rtol=0, atol=1e-6)

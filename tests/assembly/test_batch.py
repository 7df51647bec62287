"""What no model can read is said in the words of the batch, before any layer meets it."""

import pytest
import torch
from torch import Tensor

from lamoid.assembly.batch import Batch
from lamoid.assembly.families.shape import Shape
from lamoid.assembly.initialise import initialise
from lamoid.assembly.model import LanguageModel
from lamoid.errors import InputError

IDS = torch.arange(10).view(2, 5)
BAD = {
    "decimals": (IDS.float(), "batch.ids: holds float32"),
    "one dimension": (IDS[0], r"batch.ids: has the shape \(5,\)"),
    "nothing": (IDS[:, :0], r"batch.ids: has the shape \(2, 0\)"),
    "too large": (IDS + 600, "goes from 600 to 609, the table has rows from 0 to 60"),
    "negative": (IDS - 1, "goes from -1 to 8"),
    "rows of the source": (Batch(IDS, source=Batch(IDS[:1])), "batch.source: has 1 rows, ids has 2"),
    "a list": ([[1]], "batch.ids: is a list"),
}


@pytest.fixture(scope="module")
def model() -> LanguageModel:
    made = LanguageModel(Shape(family="t5", width=16, layers=1, heads=2, context=16).spec(61))
    initialise(made, seed=0)
    return made.eval()


@pytest.mark.parametrize("name", BAD)
def test_refused(model: LanguageModel, name: str) -> None:
    reading, problem = BAD[name]
    with pytest.raises(InputError, match=problem):
        model(reading)


def test_a_bare_tensor_is_a_source_too(model: LanguageModel) -> None:
    source: Tensor = IDS.flip(0)
    assert torch.equal(model(Batch(IDS, source=source)), model(Batch(IDS, source=Batch(source))))  # type: ignore[arg-type]

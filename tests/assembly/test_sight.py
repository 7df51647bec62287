"""Who sees whom, beside the definition written out pair by pair."""

import pytest
import torch

from lamoid.assembly.batch import Batch
from lamoid.assembly.cache import Cache
from lamoid.assembly.layout import plan_layout
from lamoid.assembly.sight import BidirectionalSpec, CausalSpec, EverywhereSpec, PrefixSpec, WindowSpec
from lamoid.errors import InputError

SEES = [CausalSpec(), BidirectionalSpec(), PrefixSpec()]
REACHES = [EverywhereSpec(), WindowSpec(1), WindowSpec(3), WindowSpec(50)]
PACKED = torch.tensor([[1, 1, 1, 2, 2, 2, 2], [1, 2, 2, 2, 2, 0, 0]])
MARKS = torch.tensor([[1, 1, 0, 1, 1, 1, 0], [1, 1, 1, 0, 0, 0, 0]])


def may_see(sees, reach, query, key, *, is_marked):
    if isinstance(reach, WindowSpec) and abs(query - key) >= reach.tokens:
        return False
    return key <= query or isinstance(sees, BidirectionalSpec) or (isinstance(sees, PrefixSpec) and is_marked)


def dense(sight, rows, queries, keys):
    """Write a sight out as a mask (B, T, S)."""
    if sight.mask is not None:
        return sight.mask[:, 0].expand(rows, queries, keys)
    mask = torch.ones(rows, queries, keys, dtype=torch.bool)
    return mask.tril() if sight.causal else mask


@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("sees", SEES, ids=str)
@pytest.mark.parametrize("segments", [None, PACKED], ids=["whole", "pack"])
def test_uncached(sees, reach, segments):
    layout = plan_layout(Batch(torch.zeros(2, 7, dtype=torch.long), segments, streams={"prefix": MARKS}), None)
    seen = dense(layout.sight(sees, reach), 2, 7, 7)
    numbers = torch.ones(2, 7) if segments is None else segments
    for row in range(2):
        for query in range(7):
            for key in range(7):
                is_one = bool(numbers[row, query] == numbers[row, key])
                wanted = is_one and may_see(sees, reach, query, key, is_marked=bool(MARKS[row, key]))
                assert seen[row, query, key] == wanted


@pytest.mark.parametrize("reach", REACHES, ids=str)
@pytest.mark.parametrize("sees", [CausalSpec(), PrefixSpec()], ids=str)
@pytest.mark.parametrize("lengths", [[3, 3], [4, 2]], ids=str)
def test_cached(sees, reach, lengths):
    """The second reading's queries see all that was read, each row by its own places."""
    cache = Cache([9, 9])
    cache.lengths = lengths
    layout = plan_layout(Batch(torch.zeros(2, 2, dtype=torch.long)), cache)
    keys = max(lengths) + 2
    sight = layout.sight(sees, reach)
    seen = dense(sight, 2, 2, keys)
    for row, length in enumerate(lengths):
        for query in range(2):
            wanted = [may_see(sees, reach, length + query, key, is_marked=False) for key in range(length + query + 1)]
            assert seen[row, query].tolist() == wanted + [False] * (keys - length - query - 1)


def test_a_first_reading_sees_its_prefix_and_not_its_padding():
    segments = torch.tensor([[1, 1, 1, 1], [1, 1, 0, 0]])
    batch = Batch(torch.zeros(2, 4, dtype=torch.long), segments, streams={"prefix": torch.tensor([[1, 1, 1, 0]] * 2)})
    mask = plan_layout(batch, Cache([9, 9])).sight(PrefixSpec(), EverywhereSpec()).mask
    assert mask[0, 0, 0].tolist() == [True, True, True, False]
    assert mask[1, 0, 0].tolist() == [True, True, False, False]


def test_a_prefix_comes_with_the_first_tokens():
    cache = Cache([9])
    cache.lengths = [2]
    late = plan_layout(Batch(torch.zeros(1, 2, dtype=torch.long), streams={"prefix": torch.tensor([[1, 0]])}), cache)
    with pytest.raises(InputError, match="already cached"):
        late.sight(PrefixSpec(), EverywhereSpec())
    with pytest.raises(InputError, match="prefix"):
        plan_layout(Batch(torch.zeros(1, 2, dtype=torch.long)), None).sight(PrefixSpec(), EverywhereSpec())


@pytest.mark.parametrize("segments", [[1, 1, 2, 2], [0, 1, 1, 1], [1, 0, 1, 0]], ids=str)
def test_a_cache_takes_one_document_a_row_padded_at_its_end(segments):
    batch = Batch(torch.zeros(2, 4, dtype=torch.long), torch.tensor([[1, 1, 1, 0], segments]))
    with pytest.raises(InputError, match="segments"):
        plan_layout(batch, Cache([9, 9]))

"""Token nats against torch's own cross entropy, in one piece and in many."""

import pytest
import torch

from lamoid.assembly.likelihood import IGNORED, token_nats


def drawn(rows=37, width=8, vocab=50):
    generator = torch.Generator().manual_seed(2)
    hidden = torch.randn(rows, width, generator=generator, requires_grad=True)
    table = torch.randn(vocab, width, generator=generator, requires_grad=True)
    targets = torch.randint(0, vocab, (rows,), generator=generator)
    targets[::5] = IGNORED
    return hidden, table, targets


@pytest.mark.parametrize("chunk", [1, 50, 500, 10**6])
def test_values_and_gradients_equal_cross_entropy(chunk):
    hidden, table, targets = drawn()
    token_nats(hidden, lambda h: h @ table.T, targets, chunk_elements=chunk).sum().backward()
    exact_hidden, exact_table = (t.detach().double().requires_grad_() for t in (hidden, table))
    loss = torch.nn.functional.cross_entropy(
        exact_hidden @ exact_table.T, targets, ignore_index=IGNORED, reduction="sum"
    )
    loss.backward()
    nats = token_nats(hidden, lambda h: h @ table.T, targets, chunk_elements=chunk)
    torch.testing.assert_close(nats.double().sum(), loss.detach(), rtol=1e-6, atol=0)
    torch.testing.assert_close(hidden.grad.double(), exact_hidden.grad, rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(table.grad.double(), exact_table.grad, rtol=1e-4, atol=1e-5)


def test_ignored_targets_cost_nothing_and_send_no_gradient():
    hidden, table, targets = drawn()
    nats = token_nats(hidden, lambda h: h @ table.T, targets)
    nats.sum().backward()
    assert (nats[targets == IGNORED] == 0).all()
    assert (hidden.grad[targets == IGNORED] == 0).all()
    assert nats.dtype == torch.float32


def test_never_all_logits_at_once():
    hidden, table, targets = drawn(rows=64)
    seen = []

    def head(part):
        seen.append(len(part))
        return part @ table.T

    token_nats(hidden, head, targets, chunk_elements=10 * 50).sum().backward()
    assert max(seen) == 10
    assert sum(seen) == 2 * 64, "each piece is computed again in the backward pass, none twice in the forward one"


def test_shapes_and_nothing_at_all():
    hidden, table, targets = drawn(rows=36)
    nats = token_nats(hidden.view(4, 9, 8), lambda h: h @ table.T, targets.view(4, 9))
    assert nats.shape == (4, 9)
    assert token_nats(hidden[:0], lambda h: h @ table.T, targets[:0]).shape == (0,)

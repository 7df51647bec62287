"""What a fusion came to, in one word and in plain sentences."""

from collections.abc import Sequence

NEAR_UNIFORM = 0.05
NEGLIGIBLE = 1e-4
"""Nats a token by which no model is called better: a figure with four places shows nothing of it."""
NOT_JUDGED = "not judged"


def give_verdict(difference: tuple[float, float] | None, negligible: float = 0.0) -> str:
    """Call the fused model "better", "equal" or "worse" than the best member.

    ``difference`` is the 95 % interval of its loss minus the best member's, resampled in pairs. "equal" does not say
    that the losses are: the interval holds 0 (or there is none), so that this text cannot tell the two apart, or what
    is won is ``negligible`` all over it.
    """
    if difference is None:
        return "equal"
    low, high = difference
    return "better" if high < 0.0 and low <= -negligible else "worse" if low > 0.0 else "equal"


def describe_verdict(
    verdict: str, best: str, difference: float, interval: tuple[float, float] | None, lowest: str
) -> str:
    """Say how the fused model stands to the best member, in nats a token, and what to use in the place of a worse one.

    ``lowest`` names what has the lowest loss of all that was judged.
    """
    bounds = "no interval" if interval is None else f"95 % interval {interval[0]:+.4f} to {interval[1]:+.4f}"
    figures = f"{difference:+.4f} nats a token, {bounds}"
    if verdict == "better":
        return f"The fused model is better than the best single member, {best} ({figures})."
    if verdict == "worse":
        return f"The best single member, {best}, wins: the fused model is worse ({figures}). Use {lowest}."
    if interval is not None and interval[1] < 0.0:
        return f"The fused model and the best single member, {best}, are equal but for a negligible rest ({figures})."
    return f"The fused model and the best single member, {best}, cannot be told apart: not significant ({figures})."


def describe_weights(weights: Sequence[float], losses: Sequence[float], tau: float) -> str | None:
    """Say it when the weights lie within 5 % of uniform, and which ``tau`` would sharpen them."""
    if len(weights) < 2 or any(abs(weight * len(weights) - 1.0) > NEAR_UNIFORM for weight in weights):
        return None
    spread = max(losses) - min(losses)
    sentence = f"The weights lie within 5 % of uniform: the losses differ by only {spread:.4f} nats at tau {tau:g}."
    if spread <= 0.0:
        return sentence
    cure = f"A smaller tau would sharpen them: with --tau {spread:.1g} the best would weigh about 2.7 times the worst."
    return f"{sentence} {cure}"

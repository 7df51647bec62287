"""The numbers of a rule: their limits, and one for all members or one a member."""

from collections.abc import Sequence

from lamoid.errors import InputError

LARGE = 1e12


def within(field: str, value: float | Sequence[float], low: float, high: float = LARGE) -> None:
    """Raise ``ValueError`` naming the field unless each number is finite and ``low <= number <= high``."""
    for number in value if isinstance(value, Sequence) else [value]:
        if not low <= number <= high:
            raise ValueError(f"{field} is {number}, must lie from {low:g} to {high:g}")


def above_zero(field: str, value: float | Sequence[float], high: float = LARGE) -> None:
    """Raise ``ValueError`` naming the field unless each number is finite and ``0 < number <= high``."""
    for number in value if isinstance(value, Sequence) else [value]:
        if not 0.0 < number <= high:
            raise ValueError(f"{field} is {number}, must be above 0 and at most {high:g}")


def each_member(field: str, value: float | list[float], members: int) -> list[float]:
    """Give a number a member; raise ``InputError`` where there are more or fewer numbers than members."""
    if not isinstance(value, list):
        return [value] * members
    if len(value) != members:
        raise InputError(field, f"has {len(value)} numbers for {members} members", "give one, or one a member")
    return value


def sum_to_divide_by(weights: Sequence[float], total: float) -> float:
    """Give the sum of the weights; raise ``InputError`` where it is 0 and nothing can be divided by it."""
    if abs(total) < 1e-8:
        problem = f"are {', '.join(f'{weight:g}' for weight in weights)} and sum to 0"
        raise InputError("weights", problem, "give weights of another sum, or normalize = false")
    return total

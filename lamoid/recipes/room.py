"""Is there memory for a model? Said before anything of its size is made."""

import os

from lamoid.errors import InputError

HELD = 0.95


def check_room(parameters: int, bytes_each: int, doing: str) -> None:
    """Raise ``InputError`` if numbers of ``bytes_each`` a parameter do not fit into this machine's memory at all.

    What other programs hold of it is not counted: it may be given back. Where the system does not say how much there
    is, nothing is refused.
    """
    try:
        there = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (AttributeError, ValueError, OSError):
        return
    needed = parameters * bytes_each
    if needed > HELD * there:
        problem = f"has {parameters:,} parameters, {doing} takes {needed:,} bytes, and this machine has {there:,}"
        raise InputError("model", problem, "make it smaller, or take a machine with more memory")

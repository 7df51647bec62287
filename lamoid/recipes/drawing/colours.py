"""The colours of a picture: one for each role, and one for each group of parts that share parameters."""

ROLES = {
    "input": ("#ffffff", "#868e96"),
    "embedding": ("#fff3bf", "#f08c00"),
    "mixer": ("#d0ebff", "#1c7ed6"),
    "cross_attention": ("#e5dbff", "#7048e8"),
    "recurrent": ("#c3fae8", "#099268"),
    "feedforward": ("#ebfbee", "#37b24d"),
    "norm": ("#f1f3f5", "#adb5bd"),
    "head": ("#ffe3e3", "#e03131"),
    "project": ("#ffe8cc", "#d9480f"),
    "merge": ("#f8f9fa", "#495057"),
    "frame": ("#ffffff", "#ced4da"),
}
"""Fill and edge."""

GROUPS = (
    ("#fcc2d7", "#a61e4d"),
    ("#a5d8ff", "#1864ab"),
    ("#ffec99", "#e67700"),
    ("#b2f2bb", "#2b8a3e"),
    ("#d0bfff", "#5f3dc4"),
    ("#99e9f2", "#0b7285"),
    ("#ffd8a8", "#d9480f"),
    ("#eebefa", "#862e9c"),
)
ATTENTION = ("attention", "cross_attention")


def role_colours(role: str, kind: str) -> tuple[str, str]:
    """Give fill and edge of a part that shares nothing."""
    if role == "mixer" and kind not in ATTENTION:
        return ROLES["recurrent"]
    return ROLES[kind if kind == "cross_attention" else role]


def group_colours(mark: str) -> tuple[str, str]:
    """Give fill and edge of a group by its mark: A, B, ... Z, A2."""
    number = ord(mark[0]) - ord("A") + 26 * (int(mark[1:] or 1) - 1)
    return GROUPS[number % len(GROUPS)]

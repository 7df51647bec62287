"""The rules of cleaning as a person gives them, and what they did as a person reads it."""

import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from lamoid.assembly.written import read_written
from lamoid.assembly.written_file import read_tree
from lamoid.data.clean import RuleTally, Tally
from lamoid.data.damage import Damage
from lamoid.errors import InputError
from lamoid.text.clean_rules import CleanSpec

ENCODING = "encoding"


class RuleReport(msgspec.Struct, frozen=True):
    """What one rule did; ``changes`` are places before and after, ``drops`` beginnings of texts and reasons.

    ``changed`` and ``dropped`` count documents, ``characters`` those removed; of ``encoding`` ``changed`` counts the
    files that were mended, and ``characters`` the places in them.
    """

    rule: str
    changed: int
    dropped: int
    characters: int
    changes: tuple[tuple[str, str], ...]
    drops: tuple[tuple[str, str], ...]


class CleanReport(msgspec.Struct, frozen=True):
    """What came in, what was kept, what every rule did, and by which rules."""

    documents: int
    kept: int
    characters: int
    kept_characters: int
    memory: int
    rules: tuple[RuleReport, ...]
    spec: CleanSpec

    def lines(self) -> list[str]:
        """Write what a person reads: a line a rule that did something, with samples under it."""
        share = self.kept_characters / max(1, self.characters)
        lines = [f"kept {self.kept} of {self.documents} documents, {share:.1%} of {self.characters} characters"]
        width = max((len(rule.rule) for rule in self.rules), default=0)
        for rule in self.rules:
            counts = f"dropped {rule.dropped:>8}  changed {rule.changed:>8}  characters {rule.characters:>10}"
            if rule.rule == ENCODING:
                counts = f"{'':>16}  files   {rule.changed:>8}  places     {rule.characters:>10}"
            lines.append(f"  {rule.rule:<{width}}  {counts}")
            lines += [f"    - {text!r} ({reason})" for text, reason in rule.drops]
            lines += [f"    ~ {before!r} -> {after!r}" for before, after in rule.changes]
        return lines


def read_rules(rules: Path | None, overrides: Sequence[str]) -> CleanSpec:
    """Read the table ``[clean]`` of a TOML file, or the defaults, with ``rule.key=value`` overrides.

    Raise ``InputError`` that names the key.
    """
    tree: Any = {}
    if rules is not None:
        written = read_tree(Path(rules))
        if not isinstance(written, dict) or set(written) != {"clean"}:
            there = ", ".join(written)[:200] if isinstance(written, dict) else type(written).__name__
            raise InputError(rules, f"must hold the table [clean] and no other, has {there or 'nothing'}", "write it")
        tree = written["clean"]
    for override in overrides:
        tree = _overridden(tree, override)
    return read_written(tree, CleanSpec, rules or "clean")


def damage_of(spec: CleanSpec) -> Damage | None:
    """Give what mends and counts the bytes that are no text while files are read; ``None`` where they are refused."""
    rule = spec.encoding
    return Damage(rule.errors) if rule.on and rule.errors != "refuse" else None


def report_of(tally: Tally, spec: CleanSpec, damage: Damage | None) -> CleanReport:
    """Give the report of a finished cleaning, with what was mended while the files were read."""
    if damage is not None:
        places = sum(damage.places.values())
        tally.rules[ENCODING] = RuleTally(len(damage.places), 0, places, list(damage.samples))
    return CleanReport(
        documents=tally.documents,
        kept=tally.kept,
        characters=tally.characters,
        kept_characters=tally.kept_characters,
        memory=tally.memory,
        rules=tuple(_rule_report(name, rule) for name, rule in tally.rules.items()),
        spec=spec,
    )


def _rule_report(name: str, rule: RuleTally) -> RuleReport:
    return RuleReport(name, rule.changed, rule.dropped, rule.characters, tuple(rule.changes), tuple(rule.drops))


def _overridden(tree: Any, override: str) -> Any:
    """Set ``rule.key=value``; the value is one of TOML, or else a text."""
    path, equals, text = override.partition("=")
    rule, dot, key = path.strip().removeprefix("clean.").partition(".")
    if not (equals and dot and rule and key) or not isinstance(tree, dict):
        raise InputError(f"--set {override}", "is not of the form rule.key=value", "write --set near.share=0.9")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text.strip()
    table = tree.get(rule, {})
    if not isinstance(table, dict):
        raise InputError(f"--set {override}", f"{rule!r} is no table", "write a table in the file")
    return {**tree, rule: {**table, key: value}}

# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between machines and their declarations as lines; pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TypeAlias

from pyguixvm.model.difference import Difference
from pyguixvm.model.system_change import Change, SystemChange
from pyguixvm.plan.in_words import in_words
from pyguixvm.printable import printable

_SIGNS: Mapping[Change, tuple[str, str]] = {
    "came": ("+", "new"),
    "went": ("-", "old"),
    "changed": ("~", "~"),
}
# As many names of a kind are told; a pulled Guix changes hundreds.
_MOST_NAMES = 12
# Takes a text and its colour: "old", "new", or a plan's sign.
Paint: TypeAlias = Callable[[str, str], str]


def plain(text: str, colour: str) -> str:
    """Return TEXT as it is, for where there are no colours."""
    del colour
    return text


def difference_lines(
    found: Iterable[Difference], paint: Paint = plain, changes: Iterable[SystemChange] = ()
) -> Iterator[str]:
    """Yield a line for each difference that a person tells from the others; PAINT colours values.

    A changed operating system, of which derivations and store items all differ, is one, and
    what CHANGES within it follows.
    """
    for what, old, new, effect, of_system in in_words(found):
        yield f"{what}: {paint(old, 'old')} -> {paint(new, 'new')} ({effect})"
        if of_system:
            yield from (f"  {line}" for line in system_lines(changes, paint))


def system_lines(changes: Iterable[SystemChange], paint: Paint = plain) -> Iterator[str]:
    """Yield a line for each kind of what comes, goes and changes with an operating system."""
    kinds: dict[str, list[str]] = {}
    for change in changes:
        sign, colour = _SIGNS[change.change]
        kinds.setdefault(change.kind, []).append(paint(f"{sign}{printable(change.name)}", colour))
    for kind, names in kinds.items():
        more = len(names) - _MOST_NAMES
        told = names if more <= 1 else [*names[:_MOST_NAMES], f"and {more} more"]
        yield f"{kind}s: {', '.join(told)}"

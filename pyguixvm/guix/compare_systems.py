# SPDX-License-Identifier: GPL-3.0-or-later
"""What a changed operating system is about: two derivations, compared as far as they differ.

Nothing is built and nobody is asked: derivations are files in the store (see "Derivations"
in Guix's manual).  Both are walked side by side, and only what differs is read, which is
some dozens of small files.
"""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import lru_cache
from pathlib import Path

import msgspec

from pyguixvm.model.system_change import Change, SystemChange

_DERIVATION = re.compile(r"/gnu/store/[0-9a-z]{32}-[^/\s\"]+\.drv")
_INPUT = re.compile(r'\("(/gnu/store/[^"]+\.drv)",')
_SOURCE = re.compile(r'"(/gnu/store/[^"]+)"')
_HASH = len("/gnu/store/") + 32 + len("-")
# No derivation of Guix's comes near; what does is not worth reading.
_MOST_BYTES = 4 * 1024**2
_MOST_PAIRS = 2000
# The one whose inputs are the packages of the system, and what is made of these.
_PROFILE = "profile.drv"
# Services are these, once as they are written and once compiled (gnu services shepherd).
_SERVICE = re.compile(r"shepherd-(.+)\.(?:scm|go)")
# What Guix makes of all services together; that it changed says nothing.
_WIRING = re.compile(r"activate(-service)?(\.scm)?|boot|init|shepherd\.conf|.*-builder|.*\.go")
_VERSION = re.compile(r"-\d")


class Derivation(msgspec.Struct, frozen=True):
    """The INPUTS of a derivation, which are built, and its SOURCES, which are there."""

    inputs: frozenset[str]
    sources: frozenset[str]


def system_changes(
    old: str, new: str, read: Callable[[str], Derivation] | None = None
) -> tuple[SystemChange, ...]:
    """Return what differs between the systems that derivations OLD and NEW build.

    READ returns the derivation at a path, `read_derivation` unless something else is given.
    Nothing is returned if one of them is not in the store any more: nothing is known then.
    """
    if not all(_DERIVATION.fullmatch(path) for path in (old, new)):
        return ()
    found: dict[SystemChange, None] = {}
    try:
        for change in _Walk(read or _read).differing(frozenset({old}), frozenset({new})):
            found[change] = None
    except (OSError, ValueError):
        return ()
    return tuple(sorted(found, key=lambda each: (_KINDS.index(each.kind), each.name)))


_KINDS = ("package", "service", "file")


def read_derivation(path: str) -> Derivation:
    """Return the derivation at PATH; raises OSError, or ValueError if it is none."""
    with Path(path).open(encoding="utf-8") as file:
        text = file.read(_MOST_BYTES)
    # Derive([outputs],[inputs],[sources],"system","builder",…
    try:
        _, inputs, rest = text.split("],[", 2)
    except ValueError as error:
        raise ValueError(f"{path} is no derivation") from error
    sources = rest.partition('],"')[0]
    return Derivation(frozenset(_INPUT.findall(inputs)), frozenset(_SOURCE.findall(sources)))


# A store item never changes.  Machines of one configuration have most derivations in common.
_read = lru_cache(maxsize=_MOST_PAIRS)(read_derivation)


class _Walk:
    """Two derivations, side by side, all inputs of one name together; READ returns a derivation."""

    def __init__(self, read: Callable[[str], Derivation]) -> None:
        self._read = read
        self._seen: set[tuple[frozenset[str], frozenset[str]]] = set()

    def differing(self, old: frozenset[str], new: frozenset[str]) -> Iterator[SystemChange]:
        """Yield what makes derivations OLD and NEW, all of one name, differ."""
        if (old, new) in self._seen or len(self._seen) > _MOST_PAIRS:
            return
        self._seen.add((old, new))
        before, after = self._all(old), self._all(new)
        inputs = list(_differing(before.inputs, after.inputs))
        sources = list(_differing(before.sources, after.sources))
        within = _name(next(iter(new)))
        if not inputs and all(_WIRING.fullmatch(name) for name, _, _ in sources):
            # Only what it does with its inputs differs: it is itself what changed.
            yield from _named(within, "changed", within)
        for name, here, there in sources:
            yield from _named(name, _change(here, there), within)
        for name, here, there in inputs:
            if not here or not there or (within == _PROFILE and _VERSION.search(name)):
                yield from _named(name, _change(here, there), within)
            elif within != _PROFILE:
                yield from self.differing(here, there)

    def _all(self, paths: frozenset[str]) -> Derivation:
        """Return the derivations at PATHS as one."""
        read = [self._read(path) for path in paths]
        return Derivation(
            inputs=frozenset().union(*(each.inputs for each in read)),
            sources=frozenset().union(*(each.sources for each in read)),
        )


def _differing(
    old: frozenset[str], new: frozenset[str]
) -> Iterator[tuple[str, frozenset[str], frozenset[str]]]:
    """Yield the names of what OLD and NEW, store items, do not share, and those in each."""
    before, after = _by_name(old), _by_name(new)
    for name in sorted(before.keys() | after.keys()):
        here = frozenset(before.get(name, ()))
        there = frozenset(after.get(name, ()))
        if here != there:
            yield name, here, there


def _by_name(items: Iterable[str]) -> Mapping[str, set[str]]:
    found: dict[str, set[str]] = defaultdict(set)
    for item in items:
        found[_name(item)].add(item)
    return found


def _name(item: str) -> str:
    return item[_HASH:]


def _change(here: frozenset[str], there: frozenset[str]) -> Change:
    return "changed" if here and there else "went" if here else "came"


def _named(name: str, change: Change, within: str) -> Iterator[SystemChange]:
    """Yield the CHANGE of NAME, an input of WITHIN, unless it says nothing to a person."""
    name = name.removesuffix(".drv")
    if service := _SERVICE.fullmatch(name):
        yield SystemChange("service", service[1], change)
    elif _WIRING.fullmatch(name):
        return
    elif within == _PROFILE:
        yield SystemChange("package", name, change)
    # A package that only a service uses comes with that.
    elif not _VERSION.search(name):
        yield SystemChange("file", name, change)

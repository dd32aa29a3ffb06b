# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between machines and their declarations in words; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from pyguixvm.model.difference import Difference, Value
from pyguixvm.model.sizes import format_size
from pyguixvm.model.system_change import Change, SystemChange
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

_SIZES = frozenset({"domain.memory", "domain.maximum-memory", "domain.storage"})
# Of a changed operating system each of these changes: the first that does stands for all.
_SYSTEM = ("image.system.output", "image.system", "image.system.derivation")
_IMAGE = ("image.output", "image.derivation")
_WORDS = {
    **dict.fromkeys(_SYSTEM, "operating system"),
    **dict.fromkeys(_IMAGE, "image"),
    "image.host-name": "host name",
    "image.label": "label",
    "image.kernel": "kernel",
}
# As many characters of a hash as tell items of one name apart.
_STORE_ITEM = re.compile(r"/gnu/store/([0-9a-z]{6})[0-9a-z]{26}-")


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
    for difference in _told(tuple(found)):
        yield _line(difference, paint)
        if difference.path in {*_SYSTEM, *_IMAGE}:
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


def shortened(text: str) -> str:
    """Return TEXT with the names of store items as short as people tell them apart."""
    return _STORE_ITEM.sub(r"/gnu/store/\1…-", text)


def _told(found: Sequence[Difference]) -> Iterator[Difference]:
    paths = {difference.path for difference in found}
    first = next((path for path in (*_SYSTEM, *_IMAGE) if path in paths), None)
    for difference in found:
        if difference.path not in {*_SYSTEM, *_IMAGE} or difference.path == first:
            yield difference


def _line(difference: Difference, paint: Paint) -> str:
    old, new = (
        _kind_of_image(value) if difference.path == "image" else _value(difference.path, value)
        for value in (difference.old, difference.new)
    )
    what = _WORDS.get(difference.path, printable(difference.path))
    return f"{what}: {paint(old, 'old')} -> {paint(new, 'new')} ({_effect(difference)})"


def _effect(difference: Difference) -> str:
    if difference.pending:
        return "pending until restart"
    if difference.path == "domain.storage" and difference.effect == "replace":
        return "replace: makes a fresh root, and what the old one holds stays behind"
    return difference.effect


def _kind_of_image(value: Value) -> str:
    """Return in words the image that VALUE describes, where it is of another kind than declared."""
    fields = value if isinstance(value, dict) else {}
    match fields.get("kind"):
        case "shared-store":
            return "none, the shared store of its host"
        case "local-image":
            return printable(str(fields.get("path")))
        case "remote-image":
            return printable(str(fields.get("url")))
        case _:
            return shortened(printable(str(fields.get("output") or "an image made by Guix")))


def _value(path: str, value: Value) -> str:  # noqa: PLR0911 -- one for each kind
    if path == "ready" and isinstance(value, list):
        return " ".join(_ready(form) for form in value) or "()"
    if (path in _SIZES or path.endswith(".size")) and isinstance(value, int):
        return format_size(value)
    match value:
        case None:
            return "not set"
        case bool():
            return "#t" if value else "#f"
        case list():
            return f"({' '.join(_value('', item) for item in value)})"
        case dict():
            fields = (f"({printable(key)} {_value('', item)})" for key, item in value.items())
            return f"({' '.join(fields)})"
        case str() if path in _SYSTEM:
            return shortened(printable(value)).removesuffix(".drv")
        case _:
            return shortened(printable(str(value)))


def _ready(form: Value) -> str:
    """Return FORM of readiness as it is declared: ``(tcp-port 22)``."""
    if not isinstance(form, dict):
        return _value("", form)
    kind, *values = form.values()
    words = (json.dumps(v, ensure_ascii=False) if isinstance(v, str) else str(v) for v in values)
    return f"({' '.join([str(kind), *map(printable, words)])})"

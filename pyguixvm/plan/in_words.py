# SPDX-License-Identifier: GPL-3.0-or-later
"""Differences between machines and their declarations as people read them; pure."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from typing import NamedTuple

from pyguixvm.model.difference import Difference, Value
from pyguixvm.model.sizes import format_size, sizes_apart
from pyguixvm.printable import printable

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


# The effect of what is defined as declared, and waits for the next start.
PENDING = "pending until restart"


class InWords(NamedTuple):
    """WHAT differs is OLD and declared as NEW; to mend it has EFFECT."""

    what: str
    old: str
    new: str
    effect: str
    # That of an operating system or an image, of which more can be told.
    of_system: bool


def in_words(found: Iterable[Difference]) -> Iterator[InWords]:
    """Yield each of the differences FOUND that a person tells from the others.

    A changed operating system, of which derivations and store items all differ, is one.
    """
    for difference in _told(tuple(found)):
        old, new = _values(difference)
        what = _WORDS.get(difference.path, printable(difference.path))
        of_system = difference.path in {*_SYSTEM, *_IMAGE}
        yield InWords(what, old, new, _effect(difference), of_system)


def shortened(text: str) -> str:
    """Return TEXT with the names of store items as short as people tell them apart."""
    return _STORE_ITEM.sub(r"/gnu/store/\1…-", text)


def _told(found: Sequence[Difference]) -> Iterator[Difference]:
    paths = {difference.path for difference in found}
    first = next((path for path in (*_SYSTEM, *_IMAGE) if path in paths), None)
    for difference in found:
        if difference.path not in {*_SYSTEM, *_IMAGE} or difference.path == first:
            yield difference


def _effect(difference: Difference) -> str:
    if difference.pending:
        return PENDING
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


def _values(difference: Difference) -> tuple[str, str]:
    path, old, new = difference.path, difference.old, difference.new
    if _is_size(path) and isinstance(old, int) and isinstance(new, int):
        return sizes_apart(old, new)
    if path == "image":
        return _kind_of_image(old), _kind_of_image(new)
    return _value(path, old), _value(path, new)


def _is_size(path: str) -> bool:
    return path in _SIZES or path.endswith(".size")


def _value(path: str, value: Value) -> str:  # noqa: PLR0911 -- one for each kind
    if path == "ready" and isinstance(value, list):
        return " ".join(_ready(form) for form in value) or "()"
    if _is_size(path) and isinstance(value, int):
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

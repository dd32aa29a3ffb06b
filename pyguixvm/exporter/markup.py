# SPDX-License-Identifier: GPL-3.0-or-later
"""HTML in which every text is escaped, whoever wrote it; pure."""

from __future__ import annotations

import html
from typing import TypeAlias

from pyguixvm.printable import printable

_VOID = frozenset({"link", "meta"})


class Markup(str):
    """Text that is HTML already, since it was made here."""

    __slots__ = ()


Child: TypeAlias = "Markup | str | int | None"


def text(given: str) -> Markup:
    """Return what is GIVEN as HTML that shows it, control characters as escapes."""
    return Markup(html.escape(printable(given)))


def join(*children: Child) -> Markup:
    """Return CHILDREN one after the other; None is nothing."""
    return Markup(
        "".join(
            child if isinstance(child, Markup) else text(str(child))
            for child in children
            if child is not None
        )
    )


def tag(name: str, /, *children: Child, **attributes: str | bool | None) -> Markup:
    """Return the element NAME with CHILDREN; an attribute of None or False is none.

    Underscores at the end of attributes' names go, others are hyphens: ``class_``, ``aria_label``.
    """
    words = [name]
    for key, value in attributes.items():
        called = key.rstrip("_").replace("_", "-")
        if value is True:
            words.append(called)
        elif value is not None and value is not False:
            words.append(f'{called}="{text(value)}"')
    inside = join(*children)
    end = "" if name in _VOID else f"</{name}>"
    return Markup(f"<{' '.join(words)}>{inside}{end}")

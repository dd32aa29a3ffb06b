# SPDX-License-Identifier: GPL-3.0-or-later
"""Text from elsewhere, such that it can be shown: it steers no terminal and hides nothing."""

from __future__ import annotations

import re

# What programs colour their lines with, and move a cursor by (ECMA-48, CSI and OSC).
_SEQUENCE = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\))")
_SURROGATES = range(0xDC80, 0xDD00)


def printable(text: str) -> str:
    r"""Return TEXT with an escape in the place of each character that has no glyph.

    A byte that is no UTF-8, which Python keeps as a surrogate, is shown as that byte.

    >>> printable("a\nb \x1b[2J \udcff \u202e")
    'a\\nb \\x1b[2J \\xff \\u202e'
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def legible(text: str) -> str:
    r"""Return TEXT, of several lines maybe, without colours, each of its lines printable.

    A tab is a space, and of what a carriage return overwrites the last is kept.

    >>> legible("\x1b[31mred\x1b[0m\n10%\r20%\tdone\x07")
    'red\n20% done\\x07'
    """
    lines = _SEQUENCE.sub("", text).replace("\r\n", "\n").split("\n")
    return "\n".join(printable(_last(line).replace("\t", " ")) for line in lines)


def _last(line: str) -> str:
    return line.rstrip("\r").rpartition("\r")[2]


def _escaped(char: str) -> str:
    code = ord(char)
    if code in _SURROGATES:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")

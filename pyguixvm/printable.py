# SPDX-License-Identifier: GPL-3.0-or-later
"""Text from elsewhere, such that it can be shown: it steers no terminal and hides nothing."""

from __future__ import annotations

_SURROGATES = range(0xDC80, 0xDD00)


def printable(text: str) -> str:
    r"""Return TEXT with an escape in the place of each character that has no glyph.

    A byte that is no UTF-8, which Python keeps as a surrogate, is shown as that byte.

    >>> printable("a\nb \x1b[2J \udcff \u202e")
    'a\\nb \\x1b[2J \\xff \\u202e'
    """
    return "".join(char if char.isprintable() else _escaped(char) for char in text)


def _escaped(char: str) -> str:
    code = ord(char)
    if code in _SURROGATES:
        return f"\\x{code - 0xDC00:02x}"
    return char.encode("unicode_escape").decode("ascii")

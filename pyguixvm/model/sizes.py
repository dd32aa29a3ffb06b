# SPDX-License-Identifier: GPL-3.0-or-later
"""Sizes as people write them: powers of 1024, as libvirt and Guix take them."""

from __future__ import annotations

_UNITS = "KMGTPE"
_STEP = 1024


def format_size(size: int) -> str:
    """Return SIZE (bytes) in its largest unit: exactly, or rounded to one decimal.

    A rounded size always shows its decimal, so that it cannot pass for an exact one.

    >>> format_size(10 * 1024**3), format_size(10 * 1024**3 + 1), format_size(700)
    ('10G', '10.0G', '700B')
    """
    if size < _STEP:
        return f"{size}B"
    exponent = min((size.bit_length() - 1) // 10, len(_UNITS))
    whole, rest = divmod(size, _STEP**exponent)
    if rest == 0:
        return f"{whole}{_UNITS[exponent - 1]}"
    # In integers: a float has too few digits for the tenths of a byte count.
    tenths = (size * 20 + _STEP**exponent) // (2 * _STEP**exponent)
    if tenths >= _STEP * 10 and exponent < len(_UNITS):
        exponent, tenths = exponent + 1, 10
    return f"{tenths // 10}.{tenths % 10}{_UNITS[exponent - 1]}"


def sizes_apart(first: int, second: int) -> tuple[str, str]:
    """Return both sizes (bytes) as `format_size` does, or exactly if two would read alike.

    >>> sizes_apart(1024**3, 2 * 1024**3), sizes_apart(2 * 1024**3 - 4096, 2 * 1024**3)
    (('1G', '2G'), ('2097148K', '2G'))
    """
    texts = format_size(first), format_size(second)
    alike = len({text.replace(".0", "") for text in texts}) == 1
    return (written_size(first), written_size(second)) if alike and first != second else texts


def written_size(size: int) -> str:
    """Return SIZE (bytes) as a person may have written it: exactly.

    >>> written_size(9999 * 1024**3), written_size(1536 * 1024**2), written_size(1025)
    ('9999G', '1536M', '1025')
    """
    exponent = 0
    while size and exponent < len(_UNITS) and size % _STEP == 0:
        size, exponent = size // _STEP, exponent + 1
    return f"{size}{_UNITS[exponent - 1] if exponent else ''}"

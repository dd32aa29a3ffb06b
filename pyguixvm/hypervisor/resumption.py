# SPDX-License-Identifier: GPL-3.0-or-later
"""How much of an upload that was broken off has arrived.

Volumes are sent from their begin to their end.  So nobody needs to have written down how far
that got, and nothing of it lies with who sent: it is looked for in the volume, by halves.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import BinaryIO

from pyguixvm.hypervisor import download
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.volumes import Volume

# What has arrived is known to so many bytes; so much at most is sent again.
BLOCK = 256 * 1024
# So many places before that are looked at, too.
_SAMPLES = 8
_PAGE = 4096
_ZERO_PAGE = bytes(_PAGE)


def arrived(
    connection: Connection,
    volume: Volume,
    source: BinaryIO,
    extents: Sequence[tuple[int, int]],
) -> int:
    """Return up to which byte VOLUME holds what SOURCE does, whose data is in EXTENTS.

    Raises HypervisorError.
    """
    blocks = [offset for begin, length in extents for offset in range(begin, begin + length, BLOCK)]
    # All before LOW has arrived; that at HIGH, and what comes after it, has not.
    low, high = 0, len(blocks)
    while low < high:
        middle = (low + high) // 2
        at, page = _last_page(source, blocks, middle, low)
        # Where there is nothing to be seen, nothing had to arrive.
        if page is None or _holds(connection, volume, at, page):
            low = middle + 1
        else:
            high = middle
    # Where the host itself went down, what came first need not have come to its disk first.
    spread = {low * step // (_SAMPLES + 1) for step in range(1, _SAMPLES + 1)} if low else set()
    for number in sorted(spread):
        at, page = _last_page(source, blocks, number, number)
        if page is not None and not _holds(connection, volume, at, page):
            return 0
    # One is sent again, which may be half there.
    return blocks[low - 1] if low else 0


def _holds(connection: Connection, volume: Volume, at: int, page: bytes) -> bool:
    """Whether VOLUME, which may end before, holds PAGE at AT."""
    if at + len(page) > volume.physical:
        return False
    return download.data(connection, volume, at, len(page)) == page


def _last_page(
    source: BinaryIO, blocks: Sequence[int], last: int, first: int
) -> tuple[int, bytes | None]:
    """Return offset and bytes of the last page with data in BLOCKS of SOURCE, FIRST to LAST."""
    for number in range(last, first - 1, -1):
        begin = blocks[number]
        data = os.pread(source.fileno(), BLOCK, begin)
        for offset in range((len(data) - 1) // _PAGE * _PAGE, -1, -_PAGE):
            page = data[offset : offset + _PAGE]
            if page != _ZERO_PAGE[: len(page)]:
                return begin + offset, page
    return blocks[last], None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing on files of our own: what comes of it, and the partition table's part."""

from __future__ import annotations

from pathlib import Path

import msgspec

from pyguixvm.image import extents, partition
from pyguixvm.image.extents import Range
from pyguixvm.image.partition import Partition


class Piece(msgspec.Struct, frozen=True):
    """A part of the grown image, which starts at byte OFFSET of it.

    Only the ranges WHERE of FILE mean something.
    """

    file: Path
    offset: int
    where: tuple[Range, ...]


def grow_table(base: Path, size: int, directory: Path) -> tuple[Piece, Partition]:
    """Grow a copy of the partition table of the raw image BASE for SIZE bytes, in DIRECTORY.

    Returns it, and the last partition as it is then.  Raises
    RequestRefusedError and CommandFailedError.
    """
    table = partition.read(base)
    tail = partition.GPT_BACKUP_SECTORS * table.sector_size if table.label == "gpt" else 0
    head = (0, min(one.offset for one in table.partitions))
    have = base.stat().st_size
    file = directory / "table"
    with base.open("rb") as source, file.open("wb") as target:
        extents.copy(source, target, [head, (have - tail, have)])
    extents.set_size(file, size)
    last = partition.grow_last(file)
    return Piece(file, 0, extents.union([head, (size - tail, size)])), last


def copy_partition(base: Path, last: Partition, size: int, directory: Path) -> Path:
    """Return a sparse copy of the partition LAST of BASE, with SIZE bytes, in DIRECTORY."""
    file = directory / "partition"
    with base.open("rb") as source, file.open("wb") as target:
        where = extents.intersection(extents.data(source), [(last.offset, last.end)])
        extents.copy(source, target, where, -last.offset)
    extents.set_size(file, size)
    return file

# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing an ext4 image on a scratch file that holds its metadata alone.

Growing a file system in place changes some megabytes of metadata and no
data.  So the metadata is copied to a sparse file as large as the grown image
(e2image(8)), partition and file system are grown there, and what changed is
the content of the overlay.  No data is copied, and it takes neither FUSE nor
root.
"""

from __future__ import annotations

import os
import re
from pathlib import Path

from pyguixvm import process
from pyguixvm.image import filesystem, partition, ranges
from pyguixvm.image.filesystem import FileSystem
from pyguixvm.image.partition import Partition
from pyguixvm.image.ranges import Range


def suits(base: Path, base_format: str, size: int) -> bool:
    """Return whether the image BASE can be grown to SIZE bytes without moving any data.

    Raises RequestRefusedError if it cannot be grown at all.
    """
    if base_format != "raw":
        return False
    last = partition.read(base).last
    found = filesystem.read(base, last)
    # Counting the whole image errs on the safe side.
    return found.groups is not None and found.groups.room_for(size // found.block_size)


def grow(base: Path, size: int, directory: Path) -> tuple[Path, tuple[Range, ...]]:
    """Return a sparse file of SIZE bytes in DIRECTORY, and where it holds what BASE must become.

    Everywhere else it means nothing.  Raises RequestRefusedError and CommandFailedError.
    """
    table = partition.read(base)
    last = table.last
    before, after = directory / "before", directory / "after"
    _copy_metadata(base, last, after)
    _copy_table(base, table, after, size)
    _copy_sparse(after, before)
    found = filesystem.read(base, last)
    free_before = _free(after, last, found)
    grown = partition.grow_last(after)
    filesystem.grow(after, grown)
    free_after = _free(after, grown, filesystem.read(after, grown))
    # A block that was free held anything; now that it is metadata, all of it counts, even
    # the zeros that resize2fs leaves as holes.
    end = base.stat().st_size
    unused = (*free_before, (last.offset + found.size, end))
    claimed = ranges.difference(unused, (*free_after, (grown.end, max(end, grown.end))))
    with before.open("rb") as old, after.open("rb") as new:
        return after, ranges.union(ranges.differences(old, new), claimed)


def _copy_metadata(base: Path, last: Partition, scratch: Path) -> None:
    e2image = process.which("e2image", filesystem.PACKAGE_HINT)
    offset = str(last.offset)
    process.run([str(e2image), "-r", "-o", offset, "-O", offset, str(base), str(scratch)])


def _copy_table(base: Path, table: partition.PartitionTable, scratch: Path, size: int) -> None:
    """Copy to SCRATCH what is in front of the partitions, and the copy of a GPT's table."""
    start = min(one.offset for one in table.partitions)
    with base.open("rb") as source, scratch.open("r+b") as target:
        target.truncate(size)
        _copy(source.fileno(), target.fileno(), (0, start))
        if table.label == "gpt":
            end = base.stat().st_size
            tail = (end - partition.GPT_BACKUP_SECTORS * table.sector_size, end)
            _copy(source.fileno(), target.fileno(), tail)


def _copy(source: int, target: int, where: Range) -> None:
    for start, end in ranges.chunks([where]):
        os.pwrite(target, os.pread(source, end - start, start), start)


def _copy_sparse(source: Path, target: Path) -> None:
    with source.open("rb") as old, target.open("wb") as new:
        new.truncate(source.stat().st_size)
        for where in ranges.data(old):
            _copy(old.fileno(), new.fileno(), where)


_FREE_BLOCKS = re.compile(r"^  Free blocks: (.+)$", re.MULTILINE)


def free_blocks(dump: str) -> tuple[Range, ...]:
    """Return the free blocks that DUMP, the output of dumpe2fs(8), lists."""
    found: list[Range] = []
    for line in _FREE_BLOCKS.findall(dump):
        for one in line.split(", "):
            first, _, last = one.partition("-")
            found.append((int(first), int(last or first) + 1))
    return tuple(found)


def _free(scratch: Path, where: Partition, found: FileSystem) -> tuple[Range, ...]:
    """Return the bytes of SCRATCH that are free in the file system FOUND at WHERE."""
    dumpe2fs = process.which("dumpe2fs", filesystem.PACKAGE_HINT)
    done = process.run(
        [str(dumpe2fs), f"{scratch.name}?offset={where.offset}"],
        directory=scratch.parent,
        environment={**os.environ, "LC_ALL": "C"},
    )
    return tuple(
        (where.offset + first * found.block_size, where.offset + end * found.block_size)
        for first, end in free_blocks(done.text)
    )

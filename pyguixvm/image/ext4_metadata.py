# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing a file system on a scratch file that holds its metadata alone.

Growing a file system in place changes some megabytes of metadata and no
data.  So the metadata of an ext4 is copied to a sparse file as large as the
grown partition (e2image(8)), the file system is grown there, and what changed
is the content of the overlay.  Of a btrfs, the changed blocks are all that
the file holds.  No data is copied, and it takes neither FUSE nor root.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from pyguixvm import process
from pyguixvm.confinement import Confinement
from pyguixvm.image import btrfs, extents, filesystem, partition
from pyguixvm.image.extents import Range
from pyguixvm.image.filesystem import FileSystem
from pyguixvm.image.partition import Partition
from pyguixvm.image.scratch import Piece


def suits(base: Path, base_format: str, size: int) -> bool:
    """Return whether the image BASE can be grown to SIZE bytes without moving any data.

    Raises RequestRefusedError if it cannot be grown at all.
    """
    if base_format != "raw":
        return False
    found = filesystem.read(base, partition.read(base).last)
    if found.type == "btrfs":
        return True
    # Counting the whole image errs on the safe side.
    return found.groups is not None and found.groups.room_for(size // found.block_size)


# Changes a file system in the given file, which has its metadata and none of its data.
Edit: TypeAlias = Callable[[Path], None]


def grow(
    base: Path, last: Partition, size: int, directory: Path, edit: Edit | None = None
) -> Piece:
    """Grow a copy of the metadata in partition LAST of BASE to SIZE bytes, in DIRECTORY.

    Then EDIT may change it, if it is an ext4.  Raises RequestRefusedError and
    CommandFailedError.
    """
    found = filesystem.read(base, last)
    if found.type == "ext4":
        return _grow_ext4(base, last, size, directory, found, edit)
    if edit is not None:
        raise ValueError("only an ext4 can be edited")
    return _grow_btrfs(base, last, size, directory)


def _grow_btrfs(base: Path, last: Partition, size: int, directory: Path) -> Piece:
    with base.open("rb") as image:

        def read(where: Range) -> bytes:
            start, end = where
            return extents.read(image, (last.offset + start, last.offset + end))

        writes = btrfs.plan(read, size)
    after = directory / "after"
    with after.open("wb") as file:
        for write in writes:
            os.pwrite(file.fileno(), write.content, write.offset)
    return Piece(after, last.offset, extents.union(write.where for write in writes))


def _grow_ext4(  # noqa: PLR0917 -- what to grow, how far, where, and what else to do
    base: Path,
    last: Partition,
    size: int,
    directory: Path,
    found: FileSystem,
    edit: Edit | None,
) -> Piece:
    before, after = directory / "before", directory / "after"
    e2image = process.which("e2image", filesystem.PACKAGE_HINT)
    done = process.run(
        [str(e2image), "-r", "-o", str(last.offset), str(base), str(after)],
        environment={**os.environ, "LC_ALL": "C"},
        check=False,
        confined=Confinement(reads=(base,), writes=(directory,)),
    )
    if done.status != 0:
        filesystem.require_known(done)
        raise process.CommandFailedError(done)
    extents.set_size(after, size)
    extents.copy_sparse(after, before)
    free_before = _free(after, found)
    filesystem.grow(after)
    if edit is not None:
        edit(after)
    free_after = _free(after, filesystem.read_file(after))
    # A block that was free held anything; now that it is in use, all of it counts, even the
    # zeros that are left as holes.
    end = min(base.stat().st_size - last.offset, size)
    claimed = extents.difference((*free_before, (found.size, end)), free_after)
    with before.open("rb") as old, after.open("rb") as new:
        return Piece(after, last.offset, extents.union(extents.differences(old, new), claimed))


_FREE_BLOCKS = re.compile(r"^  Free blocks: (.+)$", re.MULTILINE)


def free_blocks(dump: str) -> tuple[Range, ...]:
    """Return the free blocks that DUMP, the output of dumpe2fs(8), lists."""
    found: list[Range] = []
    for line in _FREE_BLOCKS.findall(dump):
        for one in line.split(", "):
            first, _, last = one.partition("-")
            found.append((int(first), int(last or first) + 1))
    return tuple(found)


def _free(scratch: Path, found: FileSystem) -> tuple[Range, ...]:
    """Return the bytes of SCRATCH that are free in the file system FOUND there."""
    dumpe2fs = process.which("dumpe2fs", filesystem.PACKAGE_HINT)
    done = process.run(
        [str(dumpe2fs), scratch.name],
        directory=scratch.parent,
        environment={**os.environ, "LC_ALL": "C"},
        confined=Confinement(reads=(scratch,)),
    )
    return tuple(
        (first * found.block_size, end * found.block_size) for first, end in free_blocks(done.text)
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""File systems: which one a partition holds, and growing it to fill the partition.

The layouts are those of Linux's ``fs/ext4/ext4.h`` (struct ext4_super_block)
and of btrfs's "On-disk Format" page (struct btrfs_super_block); all numbers
in them are little-endian.
"""

from __future__ import annotations

import os
import struct
import uuid
from pathlib import Path
from typing import Literal

import msgspec

from pyguixvm import process
from pyguixvm.confinement import Confinement, bounds_hint
from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import btrfs
from pyguixvm.image.btrfs_block import damaged
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.partition import Partition
from pyguixvm.model.sizes import format_size, written_size
from pyguixvm.printable import printable

PACKAGE_HINT = "Install e2fsprogs."

_EXT4_SUPERBLOCK = _EXT4_SUPERBLOCK_SIZE = 1024
_BTRFS_SUPERBLOCK = btrfs.SUPERBLOCKS[0]
# As much of a partition as identifying it takes.
HEAD_SIZE = _BTRFS_SUPERBLOCK + btrfs.SUPERBLOCK_SIZE

_EXT4_MAGIC = 0xEF53
_BTRFS_LABEL_SIZE = 256

# Feature bits (ext4.h).
_RESIZE_INODE = 0x10  # compatible
_SPARSE_SUPER2 = 0x200  # compatible
_META_BG = 0x10  # incompatible
_64BIT = 0x80  # incompatible

# What is possible (ext4.h, and ext4_fill_super() in fs/ext4/super.c): blocks of 1 to 64 KiB,
# and how long (bytes) what describes a group of them may be.
_LARGEST_BLOCK = 6
_DESCRIPTOR_SIZES = frozenset({32, 64, 128, 256, 512, 1024})

_MIB, _GIB = 1024**2, 1024**3

_UNKNOWN = "unsupported feature"
# e2fsck(8): the file system had errors, and they were corrected.
_CORRECTED = 1
# It had errors, and some were not corrected; anything else says nothing about it.
_UNCORRECTED = 4


class GroupDescriptors(msgspec.Struct, frozen=True):
    """Where ext4 lists its block groups, and how much that list can grow in place.

    BLOCKS and BLOCKS_PER_GROUP count file system blocks; RESERVED is the
    number of blocks kept for the list's growth.  WIDE if a block's number may have
    more than 32 bits.
    """

    blocks: int
    first_block: int
    blocks_per_group: int
    per_block: int
    reserved: int
    movable: bool
    wide: bool = False

    @property
    def most(self) -> int:
        """The largest number of blocks that resize2fs grows to (main() in its main.c)."""
        # The list has to fit in one group.
        listed = (self.blocks_per_group - self.first_block) * self.per_block
        most = self.first_block + listed * self.blocks_per_group
        return most if self.wide else min(most, 1 << 32)

    def needed(self, blocks: int) -> int:
        """Return the number of blocks that the list takes for a file system of BLOCKS."""
        groups = -(-(blocks - self.first_block) // self.blocks_per_group)
        return -(-groups // self.per_block)

    def room_for(self, blocks: int) -> bool:
        """Return whether growing to BLOCKS leaves every data block where it is.

        resize2fs moves data only to make room for a longer list of groups
        (``blocks_to_move`` in its resize2fs.c).
        """
        return self.movable and self.needed(blocks) - self.needed(self.blocks) <= self.reserved


class FileSystem(msgspec.Struct, frozen=True):
    """A file system; BLOCK_SIZE and SIZE are bytes, GROUPS is ext4's."""

    type: Literal["ext4", "btrfs"]
    label: str
    uuid: uuid.UUID
    block_size: int
    size: int
    groups: GroupDescriptors | None = None


def identify(head: bytes) -> FileSystem | None:
    """Return the file system of a partition that starts with HEAD (HEAD_SIZE bytes), if known.

    ext2 and ext3 count as ext4: they have the same superblock and grow in the same way.
    Raises RequestRefusedError if it cannot be as it says.
    """
    return _ext4(head[_EXT4_SUPERBLOCK:]) or _btrfs(head[_BTRFS_SUPERBLOCK:])


def _ext4(block: bytes) -> FileSystem | None:
    if len(block) < _EXT4_SUPERBLOCK_SIZE or _u16(block, 0x38) != _EXT4_MAGIC:
        return None
    compatible, incompatible = _u32(block, 0x5C), _u32(block, 0x60)
    if _u32(block, 0x18) > _LARGEST_BLOCK:
        raise damaged("its blocks are of an impossible size")
    block_size = 1024 << _u32(block, 0x18)
    blocks = _u32(block, 0x04)
    descriptor_size = 32
    if incompatible & _64BIT:
        blocks |= _u32(block, 0x150) << 32
        descriptor_size = _u16(block, 0xFE) or 32
    first_block, blocks_per_group = _u32(block, 0x14), _u32(block, 0x20)
    if descriptor_size not in _DESCRIPTOR_SIZES or not first_block < blocks_per_group:
        raise damaged("its groups of blocks are of an impossible size")
    return FileSystem(
        type="ext4",
        label=_text(block[0x78:0x88]),
        uuid=uuid.UUID(bytes=block[0x68:0x78]),
        block_size=block_size,
        size=blocks * block_size,
        groups=GroupDescriptors(
            blocks=blocks,
            first_block=first_block,
            blocks_per_group=blocks_per_group,
            per_block=block_size // descriptor_size,
            reserved=_u16(block, 0xCE) if compatible & _RESIZE_INODE else 0,
            movable=not compatible & _SPARSE_SUPER2 and not incompatible & _META_BG,
            wide=bool(incompatible & _64BIT),
        ),
    )


def _btrfs(block: bytes) -> FileSystem | None:
    if len(block) < 0x12B + _BTRFS_LABEL_SIZE or block[0x40:0x48] != btrfs.MAGIC:
        return None
    return FileSystem(
        type="btrfs",
        label=_text(block[0x12B : 0x12B + _BTRFS_LABEL_SIZE]),
        uuid=uuid.UUID(bytes=block[0x20:0x30]),
        block_size=_u32(block, 0x90),
        size=struct.unpack_from("<Q", block, 0x70)[0],
    )


def _u16(block: bytes, offset: int) -> int:
    return int(struct.unpack_from("<H", block, offset)[0])


def _u32(block: bytes, offset: int) -> int:
    return int(struct.unpack_from("<I", block, offset)[0])


def _text(field: bytes) -> str:
    return field.split(b"\0", 1)[0].decode(errors="replace")


def read(path: Path, partition: Partition) -> FileSystem:
    """Return the file system in PARTITION of the raw image at PATH.

    Raises RequestRefusedError if it is none that can be grown.
    """
    return _growable(_head(path, partition.offset, partition.size), partition.number)


def used_inodes(path: Path) -> int:
    """Return how many inodes of the ext4 in the file PATH are in use."""
    with path.open("rb") as file:
        file.seek(_EXT4_SUPERBLOCK)
        block = file.read(_EXT4_SUPERBLOCK_SIZE)
    return _u32(block, 0x00) - _u32(block, 0x10)


def read_file(path: Path) -> FileSystem:
    """Return the file system in the file PATH.

    Raises RequestRefusedError if it is none that can be grown.
    """
    return _growable(_head(path, 0, HEAD_SIZE), 1)


def _head(path: Path, offset: int, size: int) -> FileSystem | None:
    with path.open("rb") as image:
        image.seek(offset)
        return identify(image.read(min(HEAD_SIZE, size)))


def _growable(found: FileSystem | None, number: int) -> FileSystem:
    if found is None:
        raise RequestRefusedError(
            f"partition {number} of the image, the last one, holds neither ext4 nor btrfs",
            hint="Declare as much storage as the image has, and grow what it holds in the guest.",
        )
    return found


def grow(path: Path) -> None:
    """Let the file system at PATH fill that file, which is its partition alone.

    Raises RequestRefusedError if the file system is damaged or cannot be
    grown, CommandFailedError and ImageError.
    """
    found = read_file(path)
    if found.groups is None:
        btrfs.grow(path)
        return
    size = path.stat().st_size
    _require_fillable(found.groups, found.block_size, size)
    _grow_ext4(path)
    grown = read_file(path).size
    # Too little room for a group of its own at the end stays unused.
    if not 0 <= size - grown < found.groups.blocks_per_group * found.block_size:
        raise ImageError(f"resize2fs grew the file system to {grown} bytes instead of {size}")


def require_known(done: process.Completed) -> None:
    """Raise RequestRefusedError if DONE, of e2fsprogs in the locale "C", met what it does not know.

    An image that is newer than the programs here is not damaged.
    """
    said = (done.stdout + done.stderr).decode(errors="replace")
    if _UNKNOWN in said:
        line = next(each for each in said.splitlines() if _UNKNOWN in each)
        raise RequestRefusedError(
            f"the e2fsprogs here are older than the file system in the image: {printable(line)}",
            hint="Install e2fsprogs as new as those that made it, or declare as much storage as "
            "the image has, and grow what it holds in the guest.",
        )


def _require_fillable(groups: GroupDescriptors, block_size: int, size: int) -> None:
    most = groups.most * block_size
    if size - size % block_size > most:
        raise RequestRefusedError(
            f"the ext4 in the image cannot fill a partition of {format_size(size)} ({size} bytes);"
            f" it has blocks of {block_size} bytes, and so at most {most} bytes",
            hint=f"Declare at most (storage {written_size(_rounded_down(most))}).",
        )


def _rounded_down(size: int) -> int:
    unit = _GIB if size >= _GIB else _MIB
    return size // unit * unit


def _grow_ext4(path: Path) -> None:
    # PATH must not be the whole image, even though the tools can be given an offset:
    # resize2fs cuts a regular file off at the file system's size, the offset not counted.
    # The tools take what follows a "?" for options, so that only a bare name is safe.
    e2fsck = process.which("e2fsck", PACKAGE_HINT)
    alone = Confinement(writes=(path,))
    checked = process.run(
        [str(e2fsck), "-fp", path.name],
        directory=path.parent,
        environment={**os.environ, "LC_ALL": "C"},
        check=False,
        confined=alone,
    )
    if checked.status not in {0, _CORRECTED}:
        failed = process.CommandFailedError(checked, hint=bounds_hint(checked.status))
        require_known(checked)
        if checked.status < 0 or not checked.status & _UNCORRECTED:
            raise failed
        reason = printable(checked.stdout.decode(errors="replace").strip())
        raise RequestRefusedError(
            f"the file system in the image is damaged:\n{failed.message}\n  {reason}"
        ) from failed
    resize2fs = process.which("resize2fs", PACKAGE_HINT)
    size = f"{path.stat().st_size // 512}s"
    process.run([str(resize2fs), path.name, size], directory=path.parent, confined=alone)

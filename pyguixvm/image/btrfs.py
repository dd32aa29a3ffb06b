# SPDX-License-Identifier: GPL-3.0-or-later
"""Growing an unmounted btrfs, by writing the new size where btrfs keeps it.

Space that no chunk takes is accounted for nowhere, so that a larger device is
told by numbers alone: the sizes of the file system and of its one device in
every copy of the superblock, and the device's again in the chunk tree.  The
blocks that hold them are altered in place and get new checksums.  That is not
how btrfs writes, and a loss of power in between would leave them in
disagreement; it suits a new image, which is thrown away then.

``btrfs filesystem resize`` would do it on a mounted file system only, and
unmounted (``--offline``) not before btrfs-progs 6.16.

The layouts are those of ``include/uapi/linux/btrfs_tree.h`` in Linux 6.12, also
described in btrfs's "On-disk Format" page; all numbers in them are
little-endian, all sizes and offsets bytes.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TypeAlias

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import extents
from pyguixvm.image.btrfs_block import checksum_type, damaged, put, sealed, u32, u64, verify
from pyguixvm.image.extents import Range

MAGIC = b"_BHRfS_M"

# btrfs_sb_offset() in fs/btrfs/disk-io.h, and BTRFS_SUPER_INFO_SIZE.
SUPERBLOCKS = (64 * 1024, 64 * 1024**2, 256 * 1024**3)
SUPERBLOCK_SIZE = 4096

# struct btrfs_super_block.
_FSID = slice(0x20, 0x30)
_BYTENR = 0x30
_FLAGS = 0x38
_SUPER_MAGIC = slice(0x40, 0x48)
_CHUNK_ROOT = 0x58
_TOTAL_BYTES = 0x70
_NUM_DEVICES = 0x88
_SECTOR_SIZE = 0x90
_NODE_SIZE = 0x94
_CHUNK_ARRAY_SIZE = 0xA0
_COMPAT_RO = 0xB4
_INCOMPAT = 0xBC
_CHUNK_ROOT_LEVEL = 0xC7
_DEVICE = 0xC9
_METADATA_UUID = slice(0x23B, 0x24B)
_CHUNK_ARRAY = 0x32B
_CHUNK_ARRAY_ROOM = 2048
_BACKUPS = 0xB2B

# struct btrfs_root_backup, of which there are four.
_BACKUP_SIZE = 168
_BACKUP_COUNT = 4
_BACKUP_CHUNK_ROOT = 16
_BACKUP_TOTAL_BYTES = 96

# struct btrfs_dev_item.
_DEVICE_ID = 0
_DEVICE_TOTAL_BYTES = 8
_DEVICE_ITEM_SIZE = 98

# struct btrfs_header, with the same checksum and identity as the superblock.
_COUNT = 0x60
_LEVEL = 0x64
_HEADER_SIZE = 0x65

# struct btrfs_disk_key, and what follows it: btrfs_key_ptr and btrfs_item.
_KEY = struct.Struct("<QBQ")
_POINTER = struct.Struct("<QBQQQ")
_ITEM = struct.Struct("<QBQII")

# struct btrfs_chunk, and a struct btrfs_stripe.
_CHUNK = struct.Struct("<QQQQIIIHH")
_STRIPE = struct.Struct("<QQ16s")

_DEVICE_ITEMS, _DEVICE_KEY, _CHUNK_KEY = 1, 216, 228

# Every stripe of such a chunk holds all of it.
_PROFILES = 0x7F8
_SINGLE, _DUP = 0, 0x20

_WRITTEN, _RELOCATED = 1, 2
_INCOMPAT_METADATA_UUID = 0x400
# All until 6.12 but zoned (0x1000), whose superblocks are elsewhere, and extent-tree-v2
# (0x2000), which is not finished.
_KNOWN_INCOMPAT = 0xFFF | 0x4000 | 0x10000
# Free space tree (and valid), verity, block group tree.
_KNOWN_COMPAT_RO = 0xF

# Sectors and nodes: powers of two in between (btrfs_validate_super() in fs/btrfs/disk-io.c).
_BLOCK_SIZES = frozenset({4096, 8192, 16384, 32768, 65536})

_HINT = (
    "Declare as much storage as the image has, and grow it in the guest:"
    " btrfs filesystem resize max /"
)

# Returns the bytes in a range of the file system's device.
Reader: TypeAlias = Callable[[Range], bytes]


class Write(msgspec.Struct, frozen=True):
    """CONTENT is to be written at byte OFFSET of the file system's device."""

    offset: int
    content: bytes

    @property
    def where(self) -> Range:
        """The bytes that it writes."""
        return self.offset, self.offset + len(self.content)


def grow(path: Path) -> None:
    """Let the btrfs at PATH fill that file, which is its partition alone.

    Raises RequestRefusedError if the file system is damaged, or of a kind
    that cannot be grown.
    """
    with path.open("r+b", buffering=0) as file:
        size = os.fstat(file.fileno()).st_size
        for write in plan(lambda where: extents.read(file, where), size):
            os.pwrite(file.fileno(), write.content, write.offset)


def plan(read: Reader, size: int) -> tuple[Write, ...]:
    """Return what has to be written for the btrfs that READ reads to fill a device of SIZE.

    Nothing, if it does so already.  Raises RequestRefusedError if the file
    system is damaged, or of a kind that cannot be grown.
    """
    superblock = _superblock(read)
    _refuse_unknown(superblock)
    # A device is used by whole sectors (btrfs_ioctl_resize() in fs/btrfs/ioctl.c).
    size -= size % u32(superblock, _SECTOR_SIZE)
    if size < u64(superblock, _TOTAL_BYTES):
        raise damaged("it is larger than its partition")
    if size == u64(superblock, _TOTAL_BYTES):
        return ()
    tree = ChunkTree(read, superblock)
    return (*tree.grown(size), *_grown_superblocks(superblock, size))


def _superblock(read: Reader) -> bytes:
    at = SUPERBLOCKS[0]
    superblock = read((at, at + SUPERBLOCK_SIZE))
    if superblock[_SUPER_MAGIC] != MAGIC or u64(superblock, _BYTENR) != at:
        raise damaged("it has no superblock")
    verify(superblock, checksum_type(superblock), "its superblock")
    if not {u32(superblock, _SECTOR_SIZE), u32(superblock, _NODE_SIZE)} <= _BLOCK_SIZES:
        raise damaged("its blocks have impossible sizes")
    return superblock


def _refuse_unknown(superblock: bytes) -> None:
    """Raise RequestRefusedError if there is more to the file system than is known here."""
    unknown = {
        "flags": u64(superblock, _FLAGS) & ~(_WRITTEN | _RELOCATED),
        "incompatible features": u64(superblock, _INCOMPAT) & ~_KNOWN_INCOMPAT,
        "features": u64(superblock, _COMPAT_RO) & ~_KNOWN_COMPAT_RO,
    }
    for name, bits in unknown.items():
        if bits:
            raise RequestRefusedError(
                f"the btrfs in the image has {name} {bits:#x}, with which it cannot be grown"
                " before its first start",
                hint=_HINT,
            )
    devices = u64(superblock, _NUM_DEVICES)
    if devices != 1:
        raise RequestRefusedError(
            f"the btrfs in the image is on {devices} devices, of which the image is one",
            hint=_HINT,
        )


def _grown_superblocks(superblock: bytes, size: int) -> Iterator[Write]:
    grown = bytearray(superblock)
    put(grown, _TOTAL_BYTES, size)
    put(grown, _DEVICE + _DEVICE_TOTAL_BYTES, size)
    # A backup that names the chunk tree as it is speaks of the device as it is, too.
    for number in range(_BACKUP_COUNT):
        backup = _BACKUPS + number * _BACKUP_SIZE
        if u64(superblock, backup + _BACKUP_CHUNK_ROOT) == u64(superblock, _CHUNK_ROOT):
            put(grown, backup + _BACKUP_TOTAL_BYTES, size)
    for at in SUPERBLOCKS:
        # As write_dev_supers() in fs/btrfs/disk-io.c; chunks leave these places free even
        # where no device reached when they were made.
        if at + SUPERBLOCK_SIZE < size:
            put(grown, _BYTENR, at)
            yield Write(at, sealed(grown, checksum_type(superblock)))


class _Chunk(msgspec.Struct, frozen=True):
    """Where the logical addresses WHERE are on the device: wholly at each of STRIPES."""

    where: Range
    stripes: tuple[int, ...]


class ChunkTree:
    """The tree that lists a file system's devices, besides its chunks."""

    def __init__(self, read: Reader, superblock: bytes) -> None:
        """Read by READ what SUPERBLOCK, which is valid, describes.

        Raises RequestRefusedError if its chunks cannot be made sense of.
        """
        self._read = read
        self._superblock = superblock
        self._chunks = tuple(_system_chunks(superblock))
        self._checksum_type = checksum_type(superblock)
        # The metadata keep their identity where the file system has got another.
        renamed = u64(superblock, _INCOMPAT) & _INCOMPAT_METADATA_UUID
        self._fsid = superblock[_METADATA_UUID if renamed else _FSID]

    def grown(self, size: int) -> Iterator[Write]:
        """Yield what makes the device one of SIZE.  Raises RequestRefusedError."""
        device = u64(self._superblock, _DEVICE + _DEVICE_ID)
        address, leaf, item = self._find((_DEVICE_ITEMS, _DEVICE_KEY, device))
        now = u64(leaf, item + _DEVICE_TOTAL_BYTES)
        if now != u64(self._superblock, _DEVICE + _DEVICE_TOTAL_BYTES):
            raise damaged("its superblock and its chunk tree disagree on its size")
        grown = bytearray(leaf)
        put(grown, item + _DEVICE_TOTAL_BYTES, size)
        content = sealed(grown, self._checksum_type)
        for place in self._places(address):
            yield Write(place, content)

    def _find(self, key: tuple[int, int, int]) -> tuple[int, bytes, int]:
        """Return the address of the leaf that has the device item KEY, it, and where in it."""
        address = u64(self._superblock, _CHUNK_ROOT)
        for level in range(self._superblock[_CHUNK_ROOT_LEVEL], 0, -1):
            node = self._node(address, level)
            # The last child that starts with KEY, or before it.
            children = [p[3] for p in _entries(node, _POINTER) if p[:3] <= key]
            if not children:
                raise damaged("its chunk tree has no device")
            address = children[-1]
        leaf = self._node(address, 0)
        for entry in _entries(leaf, _ITEM):
            if entry[:3] == key:
                start = _HEADER_SIZE + entry[3]
                if entry[4] != _DEVICE_ITEM_SIZE or start + entry[4] > len(leaf):
                    break
                return address, leaf, start
        raise damaged("its chunk tree has no device")

    def _node(self, address: int, level: int) -> bytes:
        """Return the node at the logical ADDRESS, on LEVEL of the tree."""
        size = u32(self._superblock, _NODE_SIZE)
        copies = {self._read((place, place + size)) for place in self._places(address)}
        if len(copies) != 1:
            raise damaged("the copies of its chunk tree differ")
        (node,) = copies
        verify(node, self._checksum_type, "its chunk tree")
        if (node[_FSID], u64(node, _BYTENR), node[_LEVEL]) != (self._fsid, address, level):
            raise damaged("its chunk tree has a node that is another's")
        return node

    def _places(self, address: int) -> tuple[int, ...]:
        """Return where on the device the node at the logical ADDRESS is: all its copies."""
        size = u32(self._superblock, _NODE_SIZE)
        for chunk in self._chunks:
            first, behind = chunk.where
            if first <= address and address + size <= behind:
                places = tuple(stripe + address - first for stripe in chunk.stripes)
                if any(each + size > u64(self._superblock, _TOTAL_BYTES) for each in places):
                    raise damaged("its chunk tree is beyond its end")
                return places
        raise damaged("its chunk tree is in none of its chunks")


def _system_chunks(superblock: bytes) -> Iterator[_Chunk]:
    """Yield the chunks that SUPERBLOCK lists: those which hold the chunk tree."""
    size = u32(superblock, _CHUNK_ARRAY_SIZE)
    if size > _CHUNK_ARRAY_ROOM:
        raise damaged("its superblock lists more chunks than there is room for")
    array = superblock[_CHUNK_ARRAY : _CHUNK_ARRAY + size]
    at = 0
    try:
        while at < size:
            _, kind, address = _KEY.unpack_from(array, at)
            at += _KEY.size
            length, _, _, profile, _, _, _, count, _ = _CHUNK.unpack_from(array, at)
            at += _CHUNK.size
            stripes = [_STRIPE.unpack_from(array, at + i * _STRIPE.size) for i in range(count)]
            at += count * _STRIPE.size
            if kind != _CHUNK_KEY:
                raise damaged("its superblock lists something that is no chunk")
            if profile & _PROFILES not in {_SINGLE, _DUP}:
                raise RequestRefusedError(
                    "the btrfs in the image has its chunk tree neither in one copy nor in two",
                    hint=_HINT,
                )
            yield _Chunk((address, address + length), tuple(stripe[1] for stripe in stripes))
    except struct.error as error:
        raise damaged("its superblock lists half a chunk") from error


def _entries(node: bytes, layout: struct.Struct) -> list[tuple[int, ...]]:
    """Return the entries of NODE, which follow its header."""
    count = u32(node, _COUNT)
    if _HEADER_SIZE + count * layout.size > len(node):
        raise damaged("its chunk tree has a node with too many entries")
    return [layout.unpack_from(node, _HEADER_SIZE + i * layout.size) for i in range(count)]

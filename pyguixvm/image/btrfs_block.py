# SPDX-License-Identifier: GPL-3.0-or-later
"""A block of a btrfs, a superblock or a node: the numbers in it, and its checksum.

As in ``include/uapi/linux/btrfs_tree.h`` in Linux 6.12; numbers are little-endian.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator

from pyguixvm.errors import RequestRefusedError

# It covers all behind its own field, with which every block starts.
_CHECKSUM_SIZE = 32
# In struct btrfs_super_block: of which type all of the file system are.
_CHECKSUM_TYPE = 0xC4
# enum btrfs_csum_type, without xxhash64 (1), which Python does not have.
_CRC32C, _SHA256, _BLAKE2B = 0, 2, 3


def damaged(reason: str) -> RequestRefusedError:
    """Return what is to be raised for a file system that is damaged for REASON."""
    return RequestRefusedError(f"the file system in the image is damaged: {reason}")


def u32(block: bytes, offset: int) -> int:
    """Return the number of 32 bits at OFFSET of BLOCK."""
    return int(struct.unpack_from("<I", block, offset)[0])


def u64(block: bytes, offset: int) -> int:
    """Return the number of 64 bits at OFFSET of BLOCK."""
    return int(struct.unpack_from("<Q", block, offset)[0])


def put(block: bytearray, offset: int, value: int) -> None:
    """Have VALUE be the number of 64 bits at OFFSET of BLOCK."""
    struct.pack_into("<Q", block, offset, value)


def checksum_type(superblock: bytes) -> int:
    """Return of which type the checksums are; raises RequestRefusedError for an unknown one."""
    kind = int(struct.unpack_from("<H", superblock, _CHECKSUM_TYPE)[0])
    if kind not in {_CRC32C, _SHA256, _BLAKE2B}:
        raise RequestRefusedError(
            f"the btrfs in the image has checksums of type {kind}",
            hint="Make it with crc32c, sha256 or blake2 (mkfs.btrfs --csum).",
        )
    return kind


def _checksum(kind: int, block: bytes) -> bytes:
    content = block[_CHECKSUM_SIZE:]
    if kind == _SHA256:
        return hashlib.sha256(content).digest()
    if kind == _BLAKE2B:
        return hashlib.blake2b(content, digest_size=32).digest()
    return struct.pack("<I", crc32c(content)).ljust(_CHECKSUM_SIZE, b"\0")


def verify(block: bytes, kind: int, what: str) -> None:
    """Raise RequestRefusedError unless BLOCK, which is WHAT, has the checksum of KIND it needs."""
    if block[:_CHECKSUM_SIZE] != _checksum(kind, block):
        raise damaged(f"the checksum of {what} is wrong")


def sealed(block: bytearray, kind: int) -> bytes:
    """Return BLOCK with the checksum that belongs to it."""
    content = bytes(block)
    return _checksum(kind, content) + content[_CHECKSUM_SIZE:]


def _crc32c_table() -> Iterator[int]:
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = crc >> 1 ^ (0x82F63B78 if crc & 1 else 0)
        yield crc


_CRC32C_TABLE = tuple(_crc32c_table())


def crc32c(content: bytes) -> int:
    """Return the CRC-32C (Castagnoli) of CONTENT, as RFC 3720 defines it in its appendix B.4."""
    crc = 0xFFFFFFFF
    for byte in content:
        crc = crc >> 8 ^ _CRC32C_TABLE[(crc ^ byte) & 0xFF]
    return crc ^ 0xFFFFFFFF

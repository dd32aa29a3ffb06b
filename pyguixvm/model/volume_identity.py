# SPDX-License-Identifier: GPL-3.0-or-later
"""What tells the qcow2 image of a data disk from every other one of its name; pure.

It stands in the header, as an extension that QEMU does not know, and keeps, whatever a guest
writes and however the image grows (QEMU's docs/interop/qcow2.txt, "Header extensions").  What
makes another image of it, `virsh vol-clone` or `qemu-img convert`, leaves it out; a copy of the
file has it, and is what it was copied from, as a backup should be.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from uuid import UUID

# As much of an image as has to be read to find it (bytes).
HEADER_LENGTH = 4096

_MAGIC = b"QFI\xfb"
_VERSION_3 = 3
_LENGTH_OF_VERSION_2 = 72
_LENGTH_OF_VERSION_3 = 104
_LENGTH_FIELD = 100
_FIELD = struct.Struct(">II")
# "pgvi", among the types that nobody has been given.
_OURS = 0x70677669
_END = 0


def identity_in(header: bytes) -> str | None:
    """Return the identity in HEADER, the first bytes of an image; None if there is none."""
    for offset, kind, length in _extensions(header):
        if kind == _OURS and length == len(UUID(int=0).bytes):
            return str(UUID(bytes=header[offset : offset + length]))
    return None


def with_identity(header: bytes, identity: str) -> bytes:
    """Return HEADER, the first HEADER_LENGTH bytes of a qcow2 image, with IDENTITY, a UUID.

    Raises ValueError if it is not such a header, has one, or has no room for one.
    """
    end = next((offset for offset, kind, _ in _extensions(header) if kind == _END), None)
    if end is None or identity_in(header) is not None:
        raise ValueError("no header of a qcow2 image without identity")
    extension = _FIELD.pack(_OURS, len(UUID(identity).bytes)) + UUID(identity).bytes
    begin = end - _FIELD.size
    after = begin + len(extension) + _FIELD.size
    if after > len(header) or any(header[begin:after]):
        raise ValueError("the header of the image has no room")
    return header[:begin] + extension + header[begin + len(extension) :]


def _extensions(header: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield where the data of each extension begins, its type and length; the end is the last."""
    if len(header) < _LENGTH_OF_VERSION_3 or header[:4] != _MAGIC:
        return
    offset = _LENGTH_OF_VERSION_2
    if int.from_bytes(header[4:8], "big") >= _VERSION_3:
        offset = int.from_bytes(header[_LENGTH_FIELD : _LENGTH_FIELD + 4], "big")
    while offset + _FIELD.size <= len(header):
        kind, length = _FIELD.unpack_from(header, offset)
        offset += _FIELD.size
        yield offset, kind, length
        if kind == _END or offset + length > len(header):
            return
        offset += (length + 7) // 8 * 8

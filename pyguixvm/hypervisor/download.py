# SPDX-License-Identifier: GPL-3.0-or-later
"""What volumes hold, over libvirt's own connection: data travels, holes do not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import libvirt

from pyguixvm.digest.content import Arriving, Content
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import volumes
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.volumes import Volume

# What is received at once: messages are not larger (libvirt's VIR_NET_MESSAGE_LEGACY_PAYLOAD_MAX).
_RECEIVE = 256 * 1024
_AT_HOLE = -3


def content(
    connection: Connection, volume: Volume, tell: Callable[[int], None] = lambda _read: None
) -> Content:
    """Return what VOLUME holds, all of which is read.  Raises HypervisorError.

    TELL is told of each part of it, how many bytes have come.
    """
    arriving = Arriving()
    for part in _parts(connection, _found(connection, volume), 0, 0):
        if isinstance(part, int):
            arriving.skip(part)
        else:
            arriving.take(part)
            tell(len(part))
    return arriving.content()


def data(connection: Connection, volume: Volume, offset: int, length: int) -> bytes:
    """Return the LENGTH bytes of VOLUME at OFFSET, or all from there on if that is 0.

    Raises HypervisorError.
    """
    return data_of(connection, _found(connection, volume), offset, length)


def data_of(
    connection: Connection, found: libvirt.virStorageVol, offset: int, length: int
) -> bytes:
    """Return as `data` does what the volume holds that is FOUND, libvirt's own object."""
    parts = _parts(connection, found, offset, length)
    return b"".join(bytes(part) if isinstance(part, int) else part for part in parts)


def save(
    connection: Connection,
    volume: Volume,
    file: Path,
    tell: Callable[[int], None] = lambda _read: None,
) -> None:
    """Write what VOLUME holds to FILE, which is made, with its holes.  Raises HypervisorError.

    TELL is told as by `content`.
    """
    with file.open("xb") as out:
        size = 0
        for part in _parts(connection, _found(connection, volume), 0, 0):
            if isinstance(part, int):
                size += part
                out.seek(size)
            else:
                size += out.write(part)
                tell(len(part))
        out.truncate(size)


def _found(connection: Connection, volume: Volume) -> libvirt.virStorageVol:
    with explained(f"look for volume '{volume.name}' in pool '{volume.pool}'"):
        found = volumes.find_handle(connection, volume.pool, volume.name)
    if found is None:
        raise RequestRefusedError(f"volume '{volume.name}' vanished from '{volume.pool}'")
    return found


def _parts(
    connection: Connection, found: libvirt.virStorageVol, offset: int, length: int
) -> Iterator[bytes | int]:
    """Yield what FOUND holds from OFFSET on: bytes, and the length of each hole.

    A LENGTH of 0 leaves the end open (virStorageVolDownload).
    """
    with explained(f"read volume '{found.name()}'"):
        stream = connection.handle.newStream(0)
        try:
            flags = libvirt.VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM
            found.download(stream, offset, length, flags)
            while part := stream.recvFlags(_RECEIVE, libvirt.VIR_STREAM_RECV_STOP_AT_HOLE):
                yield stream.recvHole() if part == _AT_HOLE else part
            if length and not connection.local:
                # That it ended where it is to is seen of what came: nobody waits to be told.
                begun(stream.finish, far=True)
            else:
                stream.finish()
        except BaseException:
            with suppress(libvirt.libvirtError):
                stream.abort()
            raise

# SPDX-License-Identifier: GPL-3.0-or-later
"""Files into volumes, over libvirt's own connection: data travels, holes do not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import BinaryIO

import libvirt

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Emit, PhaseProgress, phase
from pyguixvm.hypervisor import incomplete_volume, pools, volumes
from pyguixvm.hypervisor.connection import Connection, capabilities
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.model import volume_names
from pyguixvm.sparse_file import data_ranges
from pyguixvm.xml.volume import VolumeDefinition

# What is read at once and, if all of it is zero, left out.
CHUNK = 4 * 1024**2
# Larger messages were half as fast over a local socket (libvirt 9.0), smaller ones no faster.
_SEND = 1024**2
# Another stream takes some 10 ms: a smaller hole is sent faster than it is left out.
_SMALLEST_HOLE = 4 * 1024**2
_ZEROS = bytes(CHUNK)


@contextmanager
def uploaded(  # noqa: PLR0917 -- where from, where to, and who is told
    connection: Connection,
    pool: str,
    name: str,
    path: str | Path,
    emit: Emit,
    machine: str | None = None,
    *,
    mode: int = 0o600,
    owner: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[Volume]:
    """Make volume NAME in POOL from the bytes of the file PATH, whatever its format.

    MODE and OWNER are as for a `VolumeDefinition`.  It counts as whole only when
    the body is done, and is deleted if that fails.  What a broken off upload left
    is made anew.  Raises `RequestRefusedError` if a whole volume of that name
    exists, and `HypervisorError` without enough space or if somebody else uploads it.
    """
    there = volumes.names(connection, pool) or frozenset()
    if volume_names.marker(name) in there:
        incomplete_volume.take_over(connection, pool, name, sleep)
    elif name in there:
        raise RequestRefusedError(f"volume '{name}' exists already in pool '{pool}'")
    with Path(path).open("rb") as source:
        size = os.fstat(source.fileno()).st_size
        total = sum(length for _, length in data_extents(source))
        pools.require_space(connection, pool, total, f"volume '{name}'")
        with incomplete_volume.incomplete_until_done(connection, pool, name):
            # Raw whatever the file's format is: a fresh qcow2 has bytes of its own,
            # which would show through the holes.
            container = VolumeDefinition(name=name, capacity=size, mode=mode, owner=owner)
            made = volumes.create_handle(connection, pool, container)
            with explained(f"upload {path} to volume '{name}'"):
                _send(connection, made, source, _Progress(emit, total, machine))
                _verify(made, size)
                volume = volumes.described_volume(pool, made)
            yield volume


def upload_volume(  # noqa: PLR0917 -- where from, where to, and who is told
    connection: Connection,
    pool: str,
    name: str,
    path: str | Path,
    emit: Emit,
    machine: str | None = None,
    *,
    mode: int = 0o600,
    owner: int | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> Volume:
    """Make volume NAME as `uploaded` does, and have it count as whole at once."""
    with uploaded(
        connection, pool, name, path, emit, machine, mode=mode, owner=owner, sleep=sleep
    ) as volume:
        return volume


def upload_base(
    connection: Connection,
    pool: str,
    path: str | Path,
    emit: Emit,
    machine: str | None = None,
    *,
    name: str | None = None,
) -> Volume:
    """Have the disk image PATH in POOL as a base volume that nobody writes to.

    NAME is derived from PATH (a store item) unless given.  A whole volume
    of that name is used as it is.  A store item is for all to read; of anything
    else, only whom guests run as may read the volume.
    """
    name = name or volume_names.base_volume(str(path))
    if volumes.is_whole(connection, pool, name):
        existing = volumes.lookup(connection, pool, name)
        if existing is not None:
            return existing
    with phase(emit, "transfer", machine, detail=name) as result:
        mode, owner = (
            (0o444, None) if volume_names.is_store_item(str(path)) else _private(connection)
        )
        made = upload_volume(connection, pool, name, path, emit, machine, mode=mode, owner=owner)
        result.detail = f"base volume {made.path}"
    return made


def _private(connection: Connection) -> tuple[int, int | None]:
    """Return mode and owner of a volume that is given to guests, and to nobody else.

    Libvirt leaves it as it is (`xml.storage`), whichever guests use it.
    """
    user = capabilities(connection).qemu_user
    # Where guests run as whoever makes it, that user has to be able to fill it.
    return (0o600, None) if user is None else (0o400, user)


def data_extents(source: BinaryIO) -> Iterator[tuple[int, int]]:
    """Yield offset and length of each part of SOURCE that holds data, small holes included.

    A file system that knows no holes has one extent.
    """
    begin = end = 0
    for data, after in data_ranges(source):
        if data - end >= _SMALLEST_HOLE or end == 0:
            if end > begin:
                yield begin, end - begin
            begin = data
        end = after
    if end > begin:
        yield begin, end - begin


def _data_chunks(source: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each chunk of SOURCE's extents."""
    for begin, length in data_extents(source):
        for offset in range(begin, begin + length, CHUNK):
            wanted = min(CHUNK, begin + length - offset)
            data = os.pread(source.fileno(), wanted, offset)
            if len(data) != wanted:
                raise HypervisorError(f"'{source.name}' became shorter while it was sent")
            yield offset, data


class _Writer:
    """Writes chunks into a volume through one stream for each run of adjoining ones."""

    def __init__(self, connection: Connection, volume: libvirt.virStorageVol) -> None:
        self._connection = connection
        self._volume = volume
        self._stream: libvirt.virStream | None = None
        self._position = 0

    def __enter__(self) -> _Writer:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is None:
            self._finish()
        elif self._stream is not None:
            with suppress(libvirt.libvirtError):
                self._stream.abort()

    def write(self, offset: int, data: bytes) -> None:
        """Write DATA at OFFSET."""
        if self._stream is None or offset != self._position:
            self._finish()
            self._stream = self._connection.handle.newStream(0)
            # A length of 0 leaves the end open (virStorageVolUpload).
            self._volume.upload(self._stream, offset, 0, 0)
        sent = 0
        while sent < len(data):
            sent += self._stream.send(data[sent : sent + _SEND])
        self._position = offset + len(data)

    def _finish(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.finish()


class _Progress:
    """Counts bytes of TOTAL and reports them."""

    def __init__(self, emit: Emit, total: int, machine: str | None) -> None:
        self._emit = emit
        self._total = total
        self._machine = machine
        self._done = 0

    def add(self, count: int) -> None:
        """COUNT more bytes are done."""
        self._done += count
        self._emit(
            PhaseProgress(
                phase="transfer", done=self._done, total=self._total, machine=self._machine
            )
        )


def _send(
    connection: Connection, volume: libvirt.virStorageVol, source: BinaryIO, progress: _Progress
) -> None:
    """Send what SOURCE holds to the empty VOLUME."""
    with _Writer(connection, volume) as writer:
        for offset, data in _data_chunks(source):
            # Images in the store are not always sparse; their zeros stay at home all the same.
            if data != _ZEROS[: len(data)]:
                writer.write(offset, data)
            progress.add(len(data))


def _verify(volume: libvirt.virStorageVol, size: int) -> None:
    """Raise `HypervisorError` unless VOLUME's file has SIZE bytes."""
    flags = libvirt.VIR_STORAGE_VOL_GET_PHYSICAL
    physical = volume.infoFlags(flags)[2]
    if physical != size:
        raise HypervisorError(
            f"volume '{volume.name()}' has {physical} bytes after the upload of {size}",
            hint="it is marked as incomplete; run the command again",
        )

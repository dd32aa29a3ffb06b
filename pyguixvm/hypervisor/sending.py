# SPDX-License-Identifier: GPL-3.0-or-later
"""What a file holds, sent into a volume: data travels, holes do not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from typing import BinaryIO

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.events import Count
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.sparse_file import data_ranges

# What is read at once and, if all of it is zero, left out.
CHUNK = 4 * 1024**2
# Larger messages were half as fast over a local socket (libvirt 9.0), smaller ones no faster.
_SEND = 1024**2
# Another stream takes some 10 ms: a smaller hole is sent faster than it is left out.
_SMALLEST_HOLE = 4 * 1024**2
_ZEROS = bytes(CHUNK)
# On a line, so many zeros are not sent, from page to page.  A file system that has grown has a
# page or two in each of its groups.
_GAP = 8 * 1024
_PAGE = 4096
# A line on which this (seconds) is not enough for all of it is one that may be cut meanwhile.
_ACKNOWLEDGE_SECONDS = 5.0


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


def size_of(extents: Iterable[tuple[int, int]]) -> int:
    """Return how many bytes are in EXTENTS, each an offset and a length."""
    return sum(length for _, length in extents)


def size_before(start: int, extents: Iterable[tuple[int, int]]) -> int:
    """Return how many bytes of EXTENTS come before START."""
    return sum(min(length, max(0, start - begin)) for begin, length in extents)


def _data_chunks(source: BinaryIO, start: int) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each chunk of SOURCE's extents, from START on."""
    for first, length in data_extents(source):
        begin, end = max(first, start), first + length
        for offset in range(begin, end, CHUNK):
            wanted = min(CHUNK, end - offset)
            data = os.pread(source.fileno(), wanted, offset)
            if len(data) != wanted:
                raise HypervisorError(f"'{source.name}' became shorter while it was sent")
            yield offset, data


def _runs(offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
    """Yield offset and bytes of each part of DATA, which is at OFFSET, between many zeros."""
    begin = end = 0
    for at in range(0, len(data), _PAGE):
        page = data[at : at + _PAGE]
        if page != _ZEROS[: len(page)]:
            if at - end >= _GAP or end == 0:
                if end > begin:
                    yield offset + begin, data[begin:end]
                begin = at
            end = at + len(page)
    if end > begin:
        yield offset + begin, data[begin:end]


class _Writer:
    """Writes chunks into a volume, and leaves out what is between them.

    On this machine, one stream for each run of adjoining ones is quickest; elsewhere each
    stream costs round trips, and one tells of the holes as well.  One that takes long is ended
    in between: what went through it is acknowledged then.
    """

    def __init__(
        self,
        connection: Connection,
        volume: libvirt.virStorageVol,
        start: int,
        acknowledge: Callable[[], object],
    ) -> None:
        self._acknowledge = acknowledge
        self._sparse = not connection.local
        self._connection = connection
        self._volume = volume
        self._stream: libvirt.virStream | None = None
        self._position = start
        self._opened = 0.0

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
        stream = self._stream
        if stream is not None and self._sparse and offset > self._position:
            stream.sendHole(offset - self._position)
            self._position = offset
        if stream is None or offset != self._position:
            self._finish()
            self._position = offset
            stream = self._open()
        sent = 0
        while sent < len(data):
            sent += stream.send(data[sent : sent + _SEND])
        self._position += len(data)
        if time.monotonic() - self._opened > _ACKNOWLEDGE_SECONDS:
            self._finish()
            self._acknowledge()

    def end_at(self, size: int) -> None:
        """Have the volume end at SIZE: with a hole, libvirt cuts it off where that ends."""
        if self._sparse and 0 < self._position < size:
            stream = self._stream or self._open()
            stream.sendHole(size - self._position)

    def _open(self) -> libvirt.virStream:
        self._stream = stream = self._connection.handle.newStream(0)
        self._opened = time.monotonic()
        flags = libvirt.VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM if self._sparse else 0
        # A length of 0 leaves the end open (virStorageVolUpload).
        self._volume.upload(stream, self._position, 0, flags)
        return stream

    def _finish(self) -> None:
        if self._stream is not None:
            stream, self._stream = self._stream, None
            stream.finish()


class Sending:
    """Sends what SOURCE holds over CONNECTION; what COUNT returns is told, each time anew.

    ACKNOWLEDGED: it took its time, and some of it is there.  ALL_SENT: so it is.
    """

    def __init__(
        self, connection: Connection, source: BinaryIO, count: Callable[[], Count]
    ) -> None:
        """Send nothing yet."""
        self.connection = connection
        self.source = source
        self._count = count
        self.acknowledged = False
        self.all_sent = False

    def is_worth_keeping(self, goes_on: bool) -> bool:
        """Whether what has arrived need not go again: if it took its time, or this GOES_ON with it.

        When all was sent and yet something fails, it may not be what it should be.
        """
        return not self.all_sent and (goes_on or self.acknowledged)

    def pieces(self, start: int) -> Iterator[tuple[int, bytes]]:
        """Yield offset and bytes of what comes from START on.

        Raises HypervisorError if that becomes less meanwhile.
        """
        return _data_chunks(self.source, start)

    def send(
        self,
        volume: libvirt.virStorageVol,
        start: int,
        there: int,
        enough: Callable[[int], bool] = lambda _: False,
    ) -> tuple[int, int | None]:
        """Send to VOLUME what comes from START on, before which THERE bytes of data are.

        Return how many bytes were written, and None, or from where on the rest is, of which
        nothing is sent since so many were ENOUGH.
        """
        written = 0
        progress = self._count()
        progress.add(there)
        with _Writer(self.connection, volume, start, self._acknowledge) as writer:
            for offset, data in self.pieces(start):
                # Images in the store are not always sparse; their zeros stay at home all the same.
                for at, run in self._parts(offset, data):
                    writer.write(at, run)
                    written += len(run)
                progress.add(len(data))
                if enough(written):
                    return written, offset + len(data)
            writer.end_at(os.fstat(self.source.fileno()).st_size)
        self.all_sent = True
        return written, None

    def _acknowledge(self) -> None:
        self.acknowledged = True

    def _parts(self, offset: int, data: bytes) -> Iterator[tuple[int, bytes]]:
        """Yield what of DATA, which is at OFFSET, is worth sending."""
        if not self.connection.local:
            yield from _runs(offset, data)
        elif data != _ZEROS[: len(data)]:
            yield offset, data

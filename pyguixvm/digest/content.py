# SPDX-License-Identifier: GPL-3.0-or-later
"""What a large file holds, told by a digest: its bits, however many of its zeros are holes.

The digest is one of the digests of chunks, those of zeros left out: holes cost nothing,
all processors work, and a file can be told from a stream that leaves them out, too.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import BinaryIO

import msgspec

from pyguixvm.interruption import end_here_if_asked
from pyguixvm.sparse_file import data_ranges

# What has one digest (bytes).  It is part of what the whole digest is.
CHUNK = 1024**2
# What file systems allocate at once, as a rule (bytes).
_PAGE = 4096
_ZEROS = bytes(CHUNK)
_ZERO_PAGE = bytes(_PAGE)
# More are seldom faster: memory has its limits, too.
_WORKERS = min(4, os.cpu_count() or 1)


class Content(msgspec.Struct, frozen=True):
    """What a file of SIZE bytes holds, by its DIGEST.

    DATA is how much of it (bytes) takes space wherever zeros take none.
    """

    size: int
    digest: str
    data: int


def content_of(file: BinaryIO, tell: Callable[[int], None] = lambda _read: None) -> Content:
    """Return what FILE holds; TELL is told of each part of it, how many bytes were read."""
    size = os.fstat(file.fileno()).st_size
    found = _Sum()
    workers = ThreadPoolExecutor(_WORKERS, thread_name_prefix="digest")
    try:
        for index, part in workers.map(partial(_read, file.fileno()), data_chunks(file)):
            end_here_if_asked()
            found.add(index, part)
            tell(CHUNK)
    finally:
        workers.shutdown(cancel_futures=True)
    return found.content(size)


def data_chunks(file: BinaryIO) -> Iterator[int]:
    """Yield the number of each chunk of FILE that may hold more than zeros."""
    following = 0
    for begin, end in data_ranges(file):
        first, last = begin // CHUNK, (end - 1) // CHUNK
        yield from range(max(first, following), last + 1)
        following = last + 1


class _Part(msgspec.Struct, frozen=True):
    """The DIGEST of a chunk, of which DATA bytes lie in pages that are not all zeros."""

    digest: bytes
    data: int


def _read(descriptor: int, index: int) -> tuple[int, _Part | None]:
    return index, _part(os.pread(descriptor, CHUNK, index * CHUNK))


def _part(chunk: bytes) -> _Part | None:
    """Return what a CHUNK, the last one of a file maybe shorter, holds; None if it is zeros."""
    # How many zeros there are at the end of a file is for its size to say.
    chunk = chunk.ljust(CHUNK, b"\0")
    if chunk == _ZEROS:
        return None
    pages = sum(chunk[at : at + _PAGE] != _ZERO_PAGE for at in range(0, CHUNK, _PAGE))
    return _Part(hashlib.sha256(chunk).digest(), pages * _PAGE)


class _Sum:
    """Takes the parts of a file in their order."""

    def __init__(self) -> None:
        self._digest = hashlib.sha256()
        self._data = 0

    def add(self, index: int, part: _Part | None) -> None:
        """Take the PART of the chunk with INDEX."""
        if part is not None:
            self._digest.update(index.to_bytes(8, "big") + part.digest)
            self._data += part.data

    def content(self, size: int) -> Content:
        """Return all of it, when it has SIZE bytes."""
        self._digest.update(size.to_bytes(8, "big"))
        return Content(size, self._digest.hexdigest(), self._data)


class Arriving:
    """What a file holds whose bytes and holes arrive one after the other."""

    def __init__(self) -> None:
        """Nothing has arrived yet."""
        self._sum = _Sum()
        self._size = 0
        # What has arrived of the chunk that is not complete.
        self._begun = bytearray()

    def take(self, data: bytes) -> None:
        """DATA comes next."""
        first = (self._size - len(self._begun)) // CHUNK
        self._size += len(data)
        self._begun += data
        whole = len(self._begun) // CHUNK
        for number in range(whole):
            chunk = bytes(self._begun[number * CHUNK : (number + 1) * CHUNK])
            self._sum.add(first + number, _part(chunk))
        del self._begun[: whole * CHUNK]

    def skip(self, length: int) -> None:
        """LENGTH zeros come next."""
        if self._begun:
            completing = min(length, CHUNK - len(self._begun))
            self.take(bytes(completing))
            length -= completing
        rest = length % CHUNK
        self._size += length - rest
        self.take(bytes(rest))

    def content(self) -> Content:
        """Return what has arrived, which is all."""
        if self._begun:
            self._sum.add(self._size // CHUNK, _part(bytes(self._begun)))
        return self._sum.content(self._size)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What of a disk image lies in files of the store as well, and where: it need not be sent there.

File systems lay a file down in few pieces, each from one of their blocks on.  So the begin of a
file is looked for at each of them, and from there on both are compared as far as they are equal;
where the file goes on elsewhere, that is looked for from then on.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from stat import S_ISREG
from typing import BinaryIO

import msgspec

from pyguixvm.interruption import end_here_if_asked
from pyguixvm.sparse_file import data_ranges

# The smallest blocks of an ext4 (bytes): what is smaller than one is not worth a name.
BLOCK = 1024
# So much is read of an image at once, a multiple of blocks, and so much is sent of it at most
# in one piece (bytes).
_READ = 4 * 1024**2
_ZEROS = bytes(_READ)
# Of files that begin alike, so many are looked at.
_CANDIDATES = 32


class Copied(msgspec.Struct, frozen=True):
    """LENGTH bytes AT an offset of an image, which are those of FILE from its offset BEGIN on."""

    at: int
    length: int
    file: str
    begin: int


class Recipe(msgspec.Struct, frozen=True):
    """How to compose an image of SIZE bytes, all zeros before: what is COPIED, what is sent.

    SENT are the offsets and lengths of what is in no file.
    """

    size: int
    copied: tuple[Copied, ...]
    sent: tuple[tuple[int, int], ...]

    @property
    def bytes_copied(self) -> int:
        """How many bytes are in files."""
        return sum(each.length for each in self.copied)

    @property
    def bytes_to_send(self) -> int:
        """How many bytes are in no file."""
        return sum(length for _, length in self.sent)


def recipe(image: BinaryIO, items: Iterable[str]) -> Recipe:
    """Return how to compose IMAGE of the files in ITEMS, which are in the store of this machine.

    Raises OSError.
    """
    found = _Search(image, items)
    for begin, end in data_ranges(image):
        found.search(begin, end)
    return Recipe(os.fstat(image.fileno()).st_size, tuple(found.copied), tuple(found.sent))


def files_in(items: Iterable[str]) -> Iterator[str]:
    """Yield the names of the files in ITEMS that are large enough to be looked for."""
    for item in items:
        path = Path(item)
        if not path.is_dir() or path.is_symlink():
            yield from _large(path)
            continue
        for directory, _, names in os.walk(item):
            for name in names:
                yield from _large(Path(directory, name))


def _large(path: Path) -> Iterator[str]:
    name, status = str(path), path.lstat()
    # Other names are not the same to all programs, in all locales.
    if (
        name.isascii()
        and name.isprintable()
        and S_ISREG(status.st_mode)
        and status.st_size >= BLOCK
    ):
        yield name


class _Search:
    """Goes through an image, and notes what is COPIED and what is SENT."""

    def __init__(self, image: BinaryIO, items: Iterable[str]) -> None:
        """Look for nothing yet in IMAGE of what is in ITEMS."""
        self.copied: list[Copied] = []
        self.sent: list[tuple[int, int]] = []
        self._image = image.fileno()
        # Where a block with these bytes may be the next one of which file.
        self._next: dict[bytes, list[tuple[str, int]]] = {}
        for file in files_in(items):
            self._expect(file, 0)

    def search(self, begin: int, end: int) -> None:
        """Go through the image from BEGIN, the first byte of a block, to END."""
        at = begin
        while at < end:
            end_here_if_asked()
            read = os.pread(self._image, min(_READ, end - at), at)
            if not read:
                return
            at += self._searched(at, read)

    def _searched(self, at: int, read: bytes) -> int:
        """Go through READ, which is AT; return how many bytes were, or more."""
        skipped = 0
        while skipped < len(read):
            block = read[skipped : skipped + BLOCK]
            length = self._copied(at + skipped, self._next.get(block, ()))
            if length:
                # What is behind the end of a file in its last block is zeros.
                skipped += -(-length // BLOCK) * BLOCK
            else:
                if block != _ZEROS[: len(block)]:
                    self._send(at + skipped, len(block))
                skipped += BLOCK
        return skipped

    def _send(self, at: int, length: int) -> None:
        if self.sent and sum(self.sent[-1]) == at and self.sent[-1][1] < _READ:
            self.sent[-1] = (self.sent[-1][0], self.sent[-1][1] + length)
        else:
            self.sent.append((at, length))

    def _expect(self, file: str, begin: int) -> None:
        """Look from now on for where FILE goes on from BEGIN, behind zeros that are holes."""
        with Path(file).open("rb") as source:
            source.seek(begin)
            while read := source.read(BLOCK):
                if read != _ZEROS[: len(read)]:
                    places = self._next.setdefault(read.ljust(BLOCK, b"\0"), [])
                    if len(places) < _CANDIDATES:
                        places.append((file, begin))
                    return
                begin += len(read)

    def _copied(self, at: int, places: Sequence[tuple[str, int]]) -> int:
        """Note how much of what is at one of PLACES is AT in the image; return that (bytes)."""
        best, length = None, 0
        for file, begin in places:
            with Path(file).open("rb") as source:
                equal = _equal(self._image, at, source.fileno(), begin)
            if equal > length:
                best, length = (file, begin), equal
        if best is not None:
            file, begin = best
            self.copied.append(Copied(at, length, file, begin))
            self._expect(file, begin + length)
        return length


def _equal(image: int, at: int, file: int, begin: int) -> int:
    """Return how many bytes are the same in IMAGE from AT on, and in FILE from BEGIN on.

    These are whole blocks, but for the last one of the file, behind which there are zeros.
    """
    equal = 0
    while True:
        theirs = os.pread(file, _READ, begin + equal)
        if not theirs:
            return equal
        padded = theirs + bytes(-len(theirs) % BLOCK)
        ours = os.pread(image, len(padded), at + equal)
        if ours == padded:
            equal += len(theirs)
            continue
        for offset in range(0, len(padded), BLOCK):
            if ours[offset : offset + BLOCK] != padded[offset : offset + BLOCK]:
                return equal + offset
        return equal

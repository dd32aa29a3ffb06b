# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a volume holds what a file does: some of it is read again, or all, or its host says so.

Over a line, what was sent would travel back for that.  Where the host of the hypervisor has a
shell for us, it reads the volume itself, and only a digest travels.
"""

from __future__ import annotations

import hashlib
import os
import shlex
from collections.abc import Sequence
from contextlib import suppress
from typing import BinaryIO

import libvirt

from pyguixvm import process
from pyguixvm.digest.content import content_of
from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor import download
from pyguixvm.hypervisor.at_once import each
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.shell import shell
from pyguixvm.hypervisor.volumes import Volume

# A sample is so many pages: asked for at once, they take a few round trips together.
_SAMPLES = 16
_PAGE = 4096
# As `sha256sum` reads (bytes), and how long (seconds) that may take elsewhere.
_READ = 1024**2
_PATIENCE = 900.0
_LENGTH = len(hashlib.sha256().hexdigest())


def holds_all(connection: Connection, volume: Volume, source: BinaryIO) -> bool:
    """Whether VOLUME holds what SOURCE does, all of which is read, at both ends.

    Raises HypervisorError.
    """
    there = _digest_there(connection.uri, volume.path)
    if there is not None:
        return there == _digest(source)
    return download.content(connection, volume) == content_of(source)


def holds_some(
    connection: Connection,
    found: libvirt.virStorageVol,
    source: BinaryIO,
    extents: Sequence[tuple[int, int]],
) -> bool:
    """Whether FOUND, libvirt's own object, holds what SOURCE does at some places of its data.

    That is in EXTENTS.  Raises HypervisorError.
    """

    def same(at: int) -> bool:
        expected = os.pread(source.fileno(), _PAGE, at)
        return download.data_of(connection, found, at, len(expected)) == expected

    return all(each(same, _places(extents), far=not connection.local))


def _places(extents: Sequence[tuple[int, int]]) -> list[int]:
    """Return where to look in EXTENTS: from the first page to the last one, evenly."""
    pages = [range(begin, begin + length, _PAGE) for begin, length in extents]
    total = sum(map(len, pages))
    wanted = {(total - 1) * step // (_SAMPLES - 1) for step in range(_SAMPLES)} if total else set()
    return [_at(pages, number) for number in sorted(wanted)]


def _at(pages: Sequence[range], number: int) -> int:
    for part in pages:
        if number < len(part):
            return part[number]
        number -= len(part)
    raise IndexError(number)


def _digest(source: BinaryIO) -> str:
    found = hashlib.sha256()
    size = os.fstat(source.fileno()).st_size
    for at in range(0, size, _READ):
        found.update(os.pread(source.fileno(), _READ, at))
    return found.hexdigest()


def _digest_there(uri: str, path: str) -> str | None:
    """Return the digest of the file PATH on the host of URI; None if no shell there tells it."""
    command = shell(uri, f"sha256sum -- {shlex.quote(path)}")
    if command is None:
        return None
    with suppress(PyguixvmError):
        said = process.run(command, timeout=_PATIENCE).stdout.decode(errors="replace")
        digest = said.partition(" ")[0]
        if len(digest) == _LENGTH and set(digest) <= set("0123456789abcdef"):
            return digest
    return None

# SPDX-License-Identifier: GPL-3.0-or-later
"""Files into volumes, over libvirt's own connection: data travels, holes do not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import libvirt

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Count, Emit, Notice, PhaseProgress
from pyguixvm.hypervisor import bounded, comparison, incomplete_volume, pools, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.fetching import NotFetchedError, Origin, fetch
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.hypervisor.new_volume import NewVolume, Place
from pyguixvm.hypervisor.resumption import arrived
from pyguixvm.hypervisor.sending import Sending, data_extents, size_of
from pyguixvm.hypervisor.time_limits import SilenceError
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.model.sizes import format_size
from pyguixvm.sparse_file import flush
from pyguixvm.xml.volume import VolumeDefinition


class VolumeExistsError(RequestRefusedError):
    """There is a whole volume of that name."""


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
    tempo: Tempo | None = None,
    resumable: bool = False,
    kept: Callable[[], bool] = lambda: False,
    origin: Origin | None = None,
) -> Iterator[Volume]:
    """Make volume NAME in POOL from the bytes of the file PATH, whatever its format.

    MODE and OWNER are as for a `VolumeDefinition`.  It is on disk when it is yielded, if the
    hypervisor is this machine.  It counts as whole only when the body is done, and is deleted
    if that fails, unless it is KEPT then, in the making.  Who else makes it is waited for, see
    `made_by_us`, and what is broken off is made anew; RESUMABLE: gone on with where it was
    acknowledged, if it is called after what it is to hold.  What has an ORIGIN is fetched from
    there by the hypervisor's host, and sent only as far as that fails.  Raises
    `VolumeExistsError` if a whole volume of that name exists, and `HypervisorError` without
    enough space or if somebody else took over meanwhile.
    """
    with (
        incomplete_volume.made_by_us(connection, pool, name, emit, machine, tempo, keep=resumable),
        Path(path).open("rb") as source,
    ):
        size = os.fstat(source.fileno()).st_size
        extents = tuple(data_extents(source))
        total = size_of(extents)
        begun = _begun(connection, pool, name, size) if resumable else None
        if begun is None and name in (volumes.names(connection, pool) or ()):
            raise VolumeExistsError(f"volume '{name}' exists already in pool '{pool}'")
        start = arrived(connection, begun, source, extents) if begun else 0
        there = _before(start, extents)
        pools.require_space(connection, pool, total - there, f"volume '{name}'")
        sending = Sending(connection, source, lambda: Count(emit, "transfer", total, machine))
        with incomplete_volume.incomplete_until_done(
            connection,
            pool,
            name,
            goes_on=begun is not None,
            worth_keeping=lambda: (
                kept() or (resumable and sending.is_worth_keeping(bool(begun or origin)))
            ),
        ):
            if begun is not None:
                emit(Notice(f"goes on with volume '{name}', {_part(there, total)} of which are "
                            "there", machine))  # fmt: skip
            # Raw whatever the file's format is: a fresh qcow2 has bytes of its own,
            # which would show through the holes.
            container = VolumeDefinition(name=name, capacity=size, mode=mode, owner=owner)
            made = (
                volumes.create_handle(connection, pool, container)
                if begun is None
                else _found(connection, pool, name)
            )
            with explained(f"upload {path} to volume '{name}'"):
                written: int | None = 0
                left = _fetched(sending, pool, made, extents, start, origin, emit, machine)
                if left is not None:
                    written = _sent(sending, pool, made, extents, left, goes_on=resumable)
                    written = None if begun or left else written
                volume = _verify(connection, pool, made, source, written)
                _flush(connection, volume)
            yield volume


def uploader(
    connection: Connection, emit: Emit, machine: str | None = None, origin: Origin | None = None
) -> Place:
    """Return what makes volumes as `uploaded` does, of what has ORIGIN if it has one."""

    def place(path: Path, volume: NewVolume) -> AbstractContextManager[Volume]:
        return uploaded(
            connection, volume.pool, volume.name, path, emit, machine, mode=volume.mode,
            owner=volume.owner, resumable=volume.resumable, origin=origin,
        )  # fmt: skip

    return place


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
    tempo: Tempo | None = None,
) -> Volume:
    """Make volume NAME as `uploaded` does, and have it count as whole at once."""
    with uploaded(
        connection, pool, name, path, emit, machine, mode=mode, owner=owner, tempo=tempo
    ) as volume:
        return volume


def _before(start: int, extents: Sequence[tuple[int, int]]) -> int:
    """Return how many bytes of EXTENTS come before START."""
    return sum(min(length, max(0, start - begin)) for begin, length in extents)


def _sent(
    sending: Sending,
    pool: str,
    made: libvirt.virStorageVol,
    extents: Sequence[tuple[int, int]],
    start: int,
    *,
    goes_on: bool,
) -> int | None:
    """Send to MADE of POOL what is in EXTENTS from START on; return how many bytes were written.

    If it GOES-ON where it was when the line was cut, that is not known in the end: None.  As long
    as more arrives each time, it does so over the next one.
    """
    cut = False
    while True:
        era = bounded.era(sending.connection.handle)
        try:
            written = sending.send(made, start, _before(start, extents))
        except (libvirt.libvirtError, SilenceError):
            if not goes_on or bounded.era(sending.connection.handle) == era:
                raise
            begun = volumes.described_volume(pool, made)
            now = arrived(sending.connection, begun, sending.source, extents)
            if cut and now <= start:
                raise
            cut, start = True, now
        else:
            return None if cut else written


def _fetched(  # noqa: PLR0917 -- what from where to where, and who is told
    sending: Sending,
    pool: str,
    made: libvirt.virStorageVol,
    extents: Sequence[tuple[int, int]],
    start: int,
    origin: Origin | None,
    emit: Emit,
    machine: str | None,
) -> int | None:
    """Have the host fetch from ORIGIN what MADE of POOL lacks from START on.

    Return None if it is whole, or else from where on it is to be sent.  As long as more arrives
    each time, it is asked again.
    """
    if origin is None:
        return start
    connection = sending.connection
    path, size = made.path(), os.fstat(sending.source.fileno()).st_size
    total = size_of(extents)

    def tell(done: int) -> None:
        emit(PhaseProgress("transfer", min(done, total), total, machine))

    while True:
        try:
            fetch(connection.uri, path, size, origin, start, tell)
        except NotFetchedError as error:
            there = volumes.described_volume(pool, made)
            now = 0 if error.another else arrived(connection, there, sending.source, extents)
            if now == 0:
                # Nothing that is not of the image is to show where that has holes.
                made.wipe(0)
            if now <= start and not (error.another and start):
                emit(Notice(f"it is sent from here: the hypervisor did not fetch {origin.url} "
                            f"itself: {error.message}", machine, warning=True))  # fmt: skip
                return now
            start = now
        else:
            return None


def _begun(connection: Connection, pool: str, name: str, size: int) -> Volume | None:
    """Return the volume NAME if it was begun, and is to have SIZE; delete anything else of it."""
    if not volumes.incomplete(connection, pool, name):
        return None
    found = volumes.lookup(connection, pool, name)
    if found is not None and found.physical <= size:
        return found
    volumes.delete(connection, pool, name)
    return None


def _found(connection: Connection, pool: str, name: str) -> libvirt.virStorageVol:
    handle = volumes.find_handle(connection, pool, name)
    if handle is None:
        raise HypervisorError(f"volume '{name}' vanished from pool '{pool}'")
    return handle


def _part(done: int, total: int) -> str:
    return f"{format_size(done)} of {format_size(total)}"


def _verify(
    connection: Connection,
    pool: str,
    sent: libvirt.virStorageVol,
    source: BinaryIO,
    written: int | None,
) -> Volume:
    """Return the volume SENT to POOL, for which WRITTEN bytes of SOURCE travelled.

    None: some came in another run, since which its host may have lost what it had not written
    to its disk.  Of what came over a line at once, some is compared, all where the
    connection is to verify.  Raises HypervisorError unless all of it has arrived.
    """
    size = os.fstat(source.fileno()).st_size
    made = volumes.described_volume(pool, sent)
    if made.physical != size:
        raise lost(made, f"has {made.physical} bytes after the upload of {size}")
    # Less than was written is what a file system that compresses takes, or loss.
    if connection.verify or written is None or made.allocation < written:
        same = comparison.holds_all(connection, made, source)
    else:
        # From here to here nothing is in between that could change it.
        same = connection.local or comparison.holds_some(
            connection, made, source, tuple(data_extents(source))
        )
    if not same:
        raise lost(made, "does not hold what was sent")
    return made


def _flush(connection: Connection, made: Volume) -> None:
    """Return when MADE is on disk, where that can be asked for: libvirt has no request for it.

    Of a hypervisor elsewhere, what is sent is as safe as its own file system has it.
    """
    if not connection.local:
        return
    try:
        flush(Path(made.path))
        flush(Path(made.path).parent)
    except PermissionError:  # of a user who may use libvirt, and not its files
        return
    except OSError as error:
        if error.errno == errno.EINVAL:  # a file system that has nothing to write
            return
        raise lost(made, f"could not be written to disk: {error}") from error


def lost(made: Volume, how: str) -> HypervisorError:
    """Return what tells HOW the volume MADE is not what was sent."""
    return HypervisorError(
        f"volume '{made.name}' of pool '{made.pool}' {how}",
        hint="run the command again; if that does not help, see whether the disk is full, or fails",
    )

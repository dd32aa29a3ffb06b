# SPDX-License-Identifier: GPL-3.0-or-later
"""Files into volumes, over libvirt's own connection: data travels, holes do not."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import BinaryIO

import libvirt

from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Count, Emit, Notice
from pyguixvm.hypervisor import bounded, comparison, incomplete_volume, pools, volumes
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.by_host import ByHost
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.fetching import Origin
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.hypervisor.new_volume import NewVolume, Place
from pyguixvm.hypervisor.resumption import arrived
from pyguixvm.hypervisor.sending import Sending, data_extents, size_before, size_of
from pyguixvm.hypervisor.time_limits import SilenceError
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.model.sizes import format_size
from pyguixvm.model.volume_names import marker
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
        incomplete_volume.made_by_us(
            connection, pool, name, emit, machine, tempo, keep=resumable
        ) as room,
        Path(path).open("rb") as source,
    ):
        size = os.fstat(source.fileno()).st_size
        extents = tuple(data_extents(source))
        total = size_of(extents)
        unfinished = marker(name) in room.names
        found = _unfinished(connection, pool, name, size) if unfinished else None
        if not unfinished and name in room.names:
            raise VolumeExistsError(f"volume '{name}' exists already in pool '{pool}'")
        start = arrived(connection, found, source, extents) if found else 0
        there = size_before(start, extents)
        pools.require_space(connection, pool, total - there, f"volume '{name}'", room.free)
        sending = Sending(connection, source, lambda: Count(emit, "transfer", total, machine))
        with incomplete_volume.incomplete_until_done(
            connection,
            pool,
            name,
            goes_on=found is not None,
            worth_keeping=lambda: (
                kept() or (resumable and sending.is_worth_keeping(bool(found or origin)))
            ),
        ):
            if found is not None:
                emit(Notice(f"goes on with volume '{name}', {_part(there, total)} of which are "
                            "there", machine))  # fmt: skip
            # Raw whatever the file's format is: a fresh qcow2 has bytes of its own,
            # which would show through the holes.
            container = VolumeDefinition(name=name, capacity=size, mode=mode, owner=owner)
            made = (
                volumes.create_handle(connection, pool, container)
                if found is None
                else _handle(connection, pool, name)
            )
            with explained(f"upload {path} to volume '{name}'"):
                host = ByHost(sending, pool, made, extents, emit, machine)
                left = start if origin is None else host.fetched(origin, start)
                written = 0 if left is None else _sent(host, left, goes_on=resumable)
                in_parts = left is not None and (found is not None or left > 0)
                volume = _verify(connection, pool, made, source, None if in_parts else written)
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


def _sent(host: ByHost, start: int, *, goes_on: bool) -> int | None:
    """Send the volume of HOST what comes from START on; return how many bytes were written.

    That is compressed if the line is seen to be slow, as far as the host takes it so.  None: it
    was broken off, and gone on with.
    """
    written, left = _sent_as_it_is(host, start, host.is_better_compressed(start), goes_on=goes_on)
    if left is None:
        return written
    left, broken_off = host.received(left)
    if left is not None:
        rest, _ = _sent_as_it_is(host, left, lambda _: False, goes_on=goes_on)
        broken_off = broken_off or rest is None
    return None if broken_off else written


def _sent_as_it_is(
    host: ByHost, start: int, enough: Callable[[int], bool], *, goes_on: bool
) -> tuple[int | None, int | None]:
    """Send what comes from START on, unless some is ENOUGH; return what `Sending.send` does.

    If it GOES-ON where it was when the line was cut, how much was written is not known in the end:
    None.  As long as more arrives each time, it does so over the next one.
    """
    sending = host.sending
    cut = False
    while True:
        era = bounded.era(sending.connection.handle)
        there = size_before(start, host.extents)
        try:
            written, left = sending.send(host.made, start, there, enough)
        except (libvirt.libvirtError, SilenceError):
            if not goes_on or bounded.era(sending.connection.handle) == era:
                raise
            now = host.arrived()
            if cut and now <= start:
                raise
            cut, start = True, now
        else:
            return None if cut else written, left


def _unfinished(connection: Connection, pool: str, name: str, size: int) -> Volume | None:
    """Return the volume NAME, which is not whole, if it is to have SIZE; delete anything else."""
    found = volumes.lookup(connection, pool, name)
    if found is not None and found.physical <= size:
        return found
    volumes.delete(connection, pool, name)
    return None


def _handle(connection: Connection, pool: str, name: str) -> libvirt.virStorageVol:
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
    # From here to here nothing is in between that could change it.
    some = begun(
        lambda: (
            connection.local
            or comparison.holds_some(connection, sent, source, tuple(data_extents(source)))
        ),
        far=not (connection.local or connection.verify or written is None),
    )
    made = volumes.described_volume(pool, sent)
    if made.physical != size:
        raise lost(made, f"has {made.physical} bytes after the upload of {size}")
    # Less than was written is what a file system that compresses takes, or loss.
    if connection.verify or written is None or made.allocation < written:
        same = comparison.holds_all(connection, made, source)
    else:
        same = some()
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""A volume that is written on the hypervisor's host, not sent by libvirt."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

from pyguixvm.events import Emit
from pyguixvm.hypervisor import comparison, incomplete_volume, pools, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.new_volume import NewVolume
from pyguixvm.hypervisor.sending import data_extents, size_of
from pyguixvm.hypervisor.upload import VolumeExistsError, lost
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.xml.volume import VolumeDefinition


@contextmanager
def composed(  # noqa: PLR0917 -- what is made where, by whom, and who is told
    connection: Connection,
    volume: NewVolume,
    path: Path,
    write: Callable[[str], object],
    emit: Emit,
    machine: str | None = None,
) -> Iterator[Volume]:
    """Make VOLUME, which is to hold what the file PATH does, by WRITE.

    That is given its file name on its host.  The volume is yielded, counts as whole and
    goes again as one that is `uploaded`, and the same is raised.  All of it is compared: the
    store there is somebody else's.
    """
    pool, name = volume.pool, volume.name
    with (
        incomplete_volume.made_by_us(connection, pool, name, emit, machine) as room,
        path.open("rb") as source,
    ):
        if name in room.names:
            raise VolumeExistsError(f"volume '{name}' exists already in pool '{pool}'")
        extents = tuple(data_extents(source))
        pools.require_space(connection, pool, size_of(extents), f"volume '{name}'", room.free)
        with incomplete_volume.incomplete_until_done(connection, pool, name):
            container = VolumeDefinition(
                name=name, capacity=path.stat().st_size, mode=volume.mode, owner=volume.owner
            )
            handle = volumes.create_handle(connection, pool, container)
            with explained(f"compose volume '{name}'"):
                write(volumes.described_volume(pool, handle).path)
                made = volumes.described_volume(pool, handle)
            # That the file is the one that libvirt has, its own look at some of it tells.
            same = comparison.holds_some(
                connection, handle, source, extents
            ) and comparison.holds_all(connection, made, source)
            if not same:
                raise lost(made, "does not hold what it is composed of here")
            yield made

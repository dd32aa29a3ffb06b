# SPDX-License-Identifier: GPL-3.0-or-later
"""Root volumes on root volumes: what another one stands on is never written to again.

A machine that is changed in place gets a new volume on top of its root, which
from then on is a generation to return to.  A guest that ran on that again
would spoil every volume above it; so it gets another volume on top of it instead.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.root_volume import Root, root_as_backing, root_of, sent_root
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor import volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.image import overlay
from pyguixvm.image.workplace import workplace
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.volume_names import free_number, generation_volume


@contextmanager
def stacked(
    machine: str, generation: Generation, volume: str, workshop: Workshop
) -> Iterator[Root]:
    """Make VOLUME on top of that of GENERATION of MACHINE, and as large; yield it.

    When it counts as whole is as for `created_root`.  Raises RequestRefusedError if
    what it should stand on is gone.
    """
    below = root_of(workshop.connection, generation)
    found = volumes.lookup(workshop.connection, generation.pool, generation.volume)
    if found is None:
        raise RequestRefusedError(f"volume '{generation.volume}' vanished from its pool")
    # Left by a run that ended when the generation vouched for its volume already.
    volumes.delete_marker(workshop.connection, generation.pool, generation.volume)
    with workplace() as directory:
        file = directory / volume
        overlay.create_unsafe(Path(below.path), "qcow2", file, found.capacity)
        # An empty volume, in the middle of what must be finished: no phase of its own.
        silent = dataclasses.replace(workshop, emit=ignore)
        with sent_root(machine, generation.pool, file, silent) as path:
            yield Root(
                generation.pool,
                volume,
                path,
                (root_as_backing(below.path), *below.backing),
                below.base,
                below.image,
                below.increment,
                (generation.volume, *generation.under),
                generation.pinned_uuid,
                generation.system,
            )


@contextmanager
def writable(
    machine: str, generation: Generation, metadata: Metadata, workshop: Workshop
) -> Iterator[Root]:
    """Yield a root for GENERATION of MACHINE that a guest may write to.

    That is its own volume, unless one of METADATA stands on it: then a new one on top.
    Raises RequestRefusedError if it is gone.
    """
    if not metadata.stands_on(generation.volume):
        yield root_of(workshop.connection, generation)
        return
    volume = _free_volume(workshop.connection, machine, generation.pool, metadata)
    with stacked(machine, generation, volume, workshop) as root:
        yield root


def _free_volume(connection: Connection, machine: str, pool: str, metadata: Metadata) -> str:
    """Return a name that no root volume of MACHINE has, nor will have by its number."""
    there = {volume.name for volume in volumes.list_ours(connection, pool)}
    return generation_volume(
        machine, free_number(machine, there | metadata.volumes, metadata.numbers)
    )

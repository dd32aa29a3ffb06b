# SPDX-License-Identifier: GPL-3.0-or-later
"""What a root volume would be, and what it would take to send it; nothing is made."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

import msgspec

from pyguixvm.apply import base_image
from pyguixvm.apply.addition import addition
from pyguixvm.apply.root_volume import Root
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.guix.store import Store, is_built
from pyguixvm.hypervisor import pools, sending, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.workplace import workplace
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import ImageContent
from pyguixvm.plan.actions import CreateRoot
from pyguixvm.process import CommandFailedError


def planned_root(
    connection: Connection, machine: VirtualMachine, action: CreateRoot, digests: Digests
) -> Root:
    """Return the root volume that ACTION would make, without making it."""
    pool = pools.find_pool(connection, action.pool)
    directory = Path(pool.path if pool else pools.default_directory(connection, action.pool))
    below, base = base_image.planned(connection, machine, action, directory, digests)
    path = str(directory / action.volume)
    return Root(action.pool, action.volume, path, (below,), base, action.image)


def bytes_to_move(
    connection: Connection,
    machine: VirtualMachine,
    action: CreateRoot,
    store: Store,
    digests: Digests,
) -> int | None:
    """Return how many bytes ACTION has to send for its image and for what changed since.

    Return None if what it is made of is not built yet.
    """
    image = Path(action.image)
    changed: int | None = 0
    if image.exists() and action.content is not None:
        changed = _changed(action, action.content, store)
        if changed is None and action.whole is not None:
            whole = msgspec.structs.replace(action, image=action.whole.output, content=None)
            return bytes_to_move(connection, machine, whole, store, digests)
    if not image.exists() or changed is None:
        return None
    return changed + _image_bytes(connection, machine, action, digests)


def _changed(action: CreateRoot, content: ImageContent, store: Store) -> int | None:
    """Return the size of what CONTENT adds (bytes); None if not known, or if nothing is added."""
    if not all(is_built(each.output) for each in (content.system, content.boot_configuration)):
        return None
    # What fails here has a whole image made, or is refused before anything is.
    failures = (ImageError, CommandFailedError, RequestRefusedError)
    with suppress(*failures), workplace() as directory:
        added = addition(action, content, directory, store)
        return added.size if added else None
    return None


def _image_bytes(
    connection: Connection, machine: VirtualMachine, action: CreateRoot, digests: Digests
) -> int:
    image = Path(action.image)
    name = base_image.base_name(connection, machine, action, digests)
    if name is None or base_image.origin(connection, machine):
        return 0
    # What is in a pool that is stopped is not known.
    active = pools.find_pool(connection, action.pool) is not None
    if active and volumes.is_whole(connection, action.pool, name):
        return 0
    with image.open("rb") as source:
        return sum(length for _, length in sending.data_extents(source))

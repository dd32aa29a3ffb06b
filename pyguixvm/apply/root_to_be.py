# SPDX-License-Identifier: GPL-3.0-or-later
"""What a root volume would be, and what it would take to send it; nothing is made."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path

import msgspec

from pyguixvm.apply import base_image
from pyguixvm.apply.addition import Addition, addition
from pyguixvm.apply.by_store import way, way_unmade
from pyguixvm.apply.contents import contents_of_addition
from pyguixvm.apply.root_volume import Root
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.guix.store import Store, is_built
from pyguixvm.hypervisor import pools, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.image.overlay import ImageError
from pyguixvm.image.workplace import workplace
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import ImageContent
from pyguixvm.model.transfer import Transfer, Via
from pyguixvm.plan.actions import CreateRoot
from pyguixvm.plan.transfer import as_root
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


def transfer(  # noqa: PLR0917 -- what is made where, of what, and how it gets there
    connection: Connection,
    machine: VirtualMachine,
    action: CreateRoot,
    store: Store,
    digests: Digests,
    via: Via = "upload",
) -> Transfer | None:
    """Return how ACTION's image, and what changed since, would get there as VIA wants.

    Return None if what it is made of is not built yet.  Raises RequestRefusedError if what VIA
    asks for is not possible.
    """
    image = Path(action.image)
    if not image.exists():
        return None
    if action.content is None:
        return _of_image(connection, machine, action, digests, via)
    added = _added(action, action.content, store)
    if added is not None:
        changed = way_unmade(connection, action.pool, contents_of_addition(added), as_root(via))
        base = _of_image(connection, machine, action, digests, via)
        return msgspec.structs.replace(base if base.size else changed,
                                       size=base.size + changed.size)  # fmt: skip
    if action.whole is None:
        return None
    whole = msgspec.structs.replace(action, image=action.whole.output, content=None, whole=None)
    return transfer(connection, machine, whole, store, digests, via)


def _added(action: CreateRoot, content: ImageContent, store: Store) -> Addition | None:
    """Return what CONTENT adds; None if that is not known, or if nothing is added."""
    if not all(is_built(each.output) for each in (content.system, content.boot_configuration)):
        return None
    # What fails here has a whole image made, or is refused before anything is.
    failures = (ImageError, CommandFailedError, RequestRefusedError)
    with suppress(*failures), workplace() as directory:
        found = addition(action, content, directory, store)
        return found if isinstance(found, Addition) else None
    return None


def _of_image(
    connection: Connection,
    machine: VirtualMachine,
    action: CreateRoot,
    digests: Digests,
    via: Via,
) -> Transfer:
    image = Path(action.image)
    name = base_image.base_name(connection, machine, action, digests)
    if name is None or base_image.origin(connection, machine):
        return Transfer("upload", 0)
    # What is in a pool that is stopped is not known.
    active = pools.find_pool(connection, action.pool) is not None
    if active and volumes.is_whole(connection, action.pool, name):
        return Transfer("upload", 0)
    contents = partial(base_image.contents, machine, image)
    return way(connection, action.pool, image, contents, via)[0]

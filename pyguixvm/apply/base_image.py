# SPDX-License-Identifier: GPL-3.0-or-later
"""What root volumes stand on: a store item as it is, or a base volume that holds the image.

A store item on this machine serves as it is.  A file of the user's does not: it may change
or move, so it is copied, as all images are for a hypervisor elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path

from pyguixvm.apply.by_store import placing
from pyguixvm.apply.contents import Contents, contents_of
from pyguixvm.apply.context import Workshop
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.fetching import Origin
from pyguixvm.hypervisor.new_volume import Place
from pyguixvm.hypervisor.shell import has_shell
from pyguixvm.hypervisor.upload import uploader
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import RemoteImage
from pyguixvm.model.volume_names import base_volume
from pyguixvm.plan.actions import CreateRoot
from pyguixvm.xml.storage import BackingFile

# In the name of a base volume whose image is not built yet.
_UNKNOWN = "DIGEST"


def looked_for(
    machine: VirtualMachine, action: CreateRoot, workshop: Workshop
) -> Callable[[], Volume | None]:
    """Begin to look for the base volume of ACTION; return what waits for it, None if it is not.

    So it is of an image that would have to be read first, and where nobody can say that yet.
    """
    known = None if workshop.connection.local else workshop.digests.seen(Path(action.image))
    if known is None:
        return lambda: None

    def look() -> Volume | None:
        with suppress(HypervisorError):  # the pool may be about to be made
            return _base_volumes(machine, action, workshop).seen(known)
        return None

    return begun(look, far=True)


def provided(
    machine: VirtualMachine,
    action: CreateRoot,
    workshop: Workshop,
    seen: Callable[[], Volume | None] = lambda: None,
) -> tuple[BackingFile, str | None]:
    """Have what the root volume of ACTION stands on where the hypervisor sees it; return it.

    If that is a base volume, its name is returned, too; SEEN tells it if it was `looked_for`.
    Raises RequestRefusedError if there is one that is not as it was made, and HypervisorError.
    """
    if _serves_as_it_is(workshop.connection, machine):
        return _store_item(action), None
    image = Path(action.image)
    # Of those that stand on it, the first one reads and sends it.
    with workshop.turns.at(action.image):
        content = image_content(image, workshop.digests, workshop.emit, machine.name)
    with workshop.turns.at(action.pool, content.digest):
        volume = _base_volumes(machine, action, workshop).provide(image, content, seen())
    return _base(machine, volume.path), volume.name


def _base_volumes(machine: VirtualMachine, action: CreateRoot, workshop: Workshop) -> BaseVolumes:
    place = _place(workshop, machine, Path(action.image))
    return BaseVolumes(
        workshop.connection, action.pool, workshop.digests, workshop.emit, machine.name, place
    )


def planned(
    connection: Connection,
    machine: VirtualMachine,
    action: CreateRoot,
    directory: Path,
    digests: Digests,
) -> tuple[BackingFile, str | None]:
    """Return what `provided` would return if DIRECTORY is that of the pool; nothing is made."""
    name = base_name(connection, machine, action, digests)
    if name is None:
        return _store_item(action), None
    return _base(machine, str(directory / name)), name


def base_name(
    connection: Connection, machine: VirtualMachine, action: CreateRoot, digests: Digests
) -> str | None:
    """Return the name of the base volume, or None where the store item itself serves."""
    if _serves_as_it_is(connection, machine):
        return None
    image = Path(action.image)
    return base_volume(digests.of(image).digest if image.exists() else _UNKNOWN)


def origin(connection: Connection, machine: VirtualMachine) -> Origin | None:
    """Return from where the hypervisor's host is to fetch the image of MACHINE, if it is to.

    It is if we get at a shell of it by ssh: what it fetches need not go up our own line.
    """
    image = machine.image
    if isinstance(image, RemoteImage) and has_shell(connection.uri):
        return Origin(image.url, image.sha256)
    return None


def contents(machine: VirtualMachine, image: Path) -> Contents:
    """Return what of the store is in IMAGE, from which the root of MACHINE is made."""
    # Of others, nobody knows who made them: they are not looked into.
    return contents_of(image) if machine.image.made_by_guix else Contents()


def _place(workshop: Workshop, machine: VirtualMachine, image: Path) -> Place:
    """Return what makes the base volume that holds IMAGE of MACHINE."""
    found = origin(workshop.connection, machine)
    if found is not None:
        return uploader(workshop.connection, workshop.emit, machine.name, found)
    return placing(workshop, machine.name, partial(contents, machine, image), workshop.via)


def _serves_as_it_is(connection: Connection, machine: VirtualMachine) -> bool:
    return connection.local and machine.image.made_by_guix


def _store_item(action: CreateRoot) -> BackingFile:
    return BackingFile(path=action.image, format="raw", store_item=True)


def _base(machine: VirtualMachine, path: str) -> BackingFile:
    return BackingFile(path=path, format=machine.image.disk_format, store_item=False)

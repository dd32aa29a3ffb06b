# SPDX-License-Identifier: GPL-3.0-or-later
"""Make a root volume: an overlay on the image, grown here, sent to its pool."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import msgspec

from pyguixvm.apply import base_image
from pyguixvm.apply.addition import Addition, addition
from pyguixvm.apply.by_store import placing
from pyguixvm.apply.contents import Contents, contents_of_addition
from pyguixvm.apply.context import Workshop
from pyguixvm.digest.file_state import FileState
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.hypervisor import pools, volumes
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.new_volume import NewVolume
from pyguixvm.image import increment as increments
from pyguixvm.image import overlay
from pyguixvm.image.grow import grow
from pyguixvm.image.overlay import ImageError, require_whole
from pyguixvm.image.workplace import workplace
from pyguixvm.model.applied import Generation
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import ImageContent, SharedStore
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.actions import CreateRoot
from pyguixvm.plan.transfer import as_root
from pyguixvm.process import CommandFailedError
from pyguixvm.xml.storage import BackingFile

# So much (bytes) is compressed in less time than a quick line takes for what that saves.
_SOON_COMPRESSED = 16 * 1024**2


@dataclass(frozen=True)
class Root:
    """A root volume in its pool: its file name there, and the files under it, nearest first.

    It was made from IMAGE, or for the system of that name.  BASE is the name of the
    base volume under it, None where there is none.  INCREMENT is the size (bytes) of
    the store items that it has and IMAGE lacks, None if it shows IMAGE as it is.
    UNDER, PINNED_UUID and ACTIVATED are as for a generation.
    """

    pool: str
    volume: str
    path: str
    backing: tuple[BackingFile, ...]
    base: str | None
    image: str
    increment: int | None = None
    under: tuple[str, ...] = ()
    pinned_uuid: str | None = None
    activated: str | None = None


@contextmanager
def created_root(machine: VirtualMachine, action: CreateRoot, workshop: Workshop) -> Iterator[Root]:
    """Make the root volume that ACTION describes; it goes again if the body fails.

    It counts as whole from the end of the body on, which is to define the
    domain whose metadata vouches for it: whatever ends us before leaves a
    volume that is marked as incomplete.

    Raises RequestRefusedError if the image is larger than declared,
    HypervisorError if the pool cannot take the volume, and BuildError.
    """
    far = not workshop.connection.local
    ready = begun(partial(pools.is_ready, workshop.connection, action.pool), far=far)
    if not far:
        _ensure_pool(action.pool, workshop)
    # The pool belongs to the hypervisor, often to root: the overlay is grown in a
    # directory of our own, and only its few megabytes are sent.
    with workplace() as directory:
        file = directory / action.volume
        image = FileState.of(Path(action.image))
        added = _incremented(machine, action, file, workshop)
        if added is None:
            action = _whole(machine, action, workshop)
            image = FileState.of(Path(action.image))
            with phase(workshop.emit, "grow", machine.name) as result:
                result.detail = _grown(machine, action, file, workshop)
        seen = base_image.looked_for(machine, action, workshop)
        _compressed(machine, action, file, workshop)
        if far and not ready():
            _ensure_pool(action.pool, workshop)
        below, base = base_image.provided(machine, action, workshop, seen)
        # What the root was made for is what it is laid on.
        image.require_unchanged()
        if below.path != action.image:
            overlay.rebase_unsafe(file, Path(below.path), below.format)
        contents = None if added is None else contents_of_addition(added)
        increment = None if added is None else added.size
        with sent_root(machine.name, action.pool, file, workshop, contents) as path:
            yield Root(action.pool, action.volume, path, (below,), base, action.image, increment)


def _ensure_pool(pool: str, workshop: Workshop) -> None:
    with workshop.turns.at(pool):
        pools.ensure_pool(workshop.connection, pool)


@contextmanager
def sent_root(
    machine: str, pool: str, file: Path, workshop: Workshop, contents: Contents | None = None
) -> Iterator[str]:
    """Send FILE to POOL as the volume of its name, a root of MACHINE; yield its name there.

    CONTENTS are what it has of the store beyond what it stands on, None if there is nothing.
    When it counts as whole, and what is raised, is as for `created_root`.
    """
    with ExitStack() as incomplete:
        with phase(workshop.emit, "transfer", machine) as result:
            workshop.require(machine)
            via = "upload" if contents is None else as_root(workshop.via)
            place = placing(workshop, machine, lambda: contents or Contents(), via)
            volume = incomplete.enter_context(place(file, NewVolume(pool, file.name)))
            result.detail = f"{format_size(volume.allocation)} in {volume.path}"
        yield volume.path


def root_of(connection: Connection, generation: Generation) -> Root:
    """Return the root volume of GENERATION.

    Raises RequestRefusedError if it, or what backs it, is gone.
    """
    pools.ensure_started(connection, generation.pool)
    volume = _require(connection, generation, generation.volume)
    return Root(
        generation.pool,
        generation.volume,
        volume,
        (*_between(connection, generation), *_bottom(connection, generation)),
        generation.base,
        generation.image,
        generation.increment,
        generation.under,
        generation.pinned_uuid,
        generation.activated,
    )


def _between(connection: Connection, generation: Generation) -> Iterator[BackingFile]:
    """Yield the root volumes under that of GENERATION."""
    for name in generation.under:
        yield root_as_backing(_require(connection, generation, name))


def root_as_backing(path: str) -> BackingFile:
    """Return the root volume with the file name PATH as what another one stands on."""
    return BackingFile(path=path, format="qcow2", store_item=False, private=True)


def _bottom(connection: Connection, generation: Generation) -> Iterator[BackingFile]:
    """Yield the image that GENERATION stands on, if there is one."""
    image = generation.declaration.image
    if isinstance(image, SharedStore):
        if connection.local:
            _require_system(generation)
    elif generation.base is None:
        yield BackingFile(path=generation.image, format="raw", store_item=True)
    else:
        yield BackingFile(
            path=_require(connection, generation, generation.base),
            format=image.disk_format,
            store_item=False,
        )


def _require_system(generation: Generation) -> None:
    if not Path(generation.image).exists():
        raise RequestRefusedError(
            f"the operating system of generation {generation.number}, {generation.image}, "
            "is not in the store any more",
            hint="Deploy what it was made of again: that builds it.",
        )


def _require(connection: Connection, generation: Generation, name: str) -> str:
    found = volumes.lookup(connection, generation.pool, name)
    if found is None:
        raise RequestRefusedError(
            f"volume '{name}' of generation {generation.number} is not in pool "
            f"'{generation.pool}' any more",
            hint="Start that pool if it is not active; a volume that was deleted is lost.",
        )
    return found.path


def _incremented(
    machine: VirtualMachine, action: CreateRoot, file: Path, workshop: Workshop
) -> Addition | None:
    """Make FILE of a base and what ACTION's content adds; return that.

    Return None if there is no content, or if the whole image is better: so much is
    to be added, or the base is not as Guix makes images.
    """
    if action.content is None:
        return None
    with phase(workshop.emit, "grow", machine.name) as result:
        try:
            added = _increment(action, action.content, file, workshop)
        except (ImageError, CommandFailedError) as error:
            # Guix's own way is always there.
            workshop.warn(machine.name, f"a whole image is made, since {error.message}")
            result.detail = "no increment"
            return None
        if isinstance(added, str):
            result.detail = added
            return None
        result.detail = f"{format_size(action.size)}, of which {format_size(added.size)} changed"
    return added


def _increment(
    action: CreateRoot, content: ImageContent, file: Path, workshop: Workshop
) -> Addition | str:
    """Make FILE of ACTION's base and CONTENT; return what it adds, or why it is not made.

    Raises ImageError and CommandFailedError.
    """
    with workplace() as directory:
        found = addition(action, content, directory, workshop.store)
        if isinstance(found, Addition):
            increments.increment(found.base, file, action.size, content, found.items)
    return found


def _whole(machine: VirtualMachine, action: CreateRoot, workshop: Workshop) -> CreateRoot:
    """Return ACTION as it is with the whole image instead of an increment, which is built."""
    if action.whole is None:
        return action
    whole = action.whole
    roots = {workshop.roots.claim(whole.output): whole.output} if workshop.roots else {}
    with phase(workshop.emit, "build", machine.name) as result:
        workshop.store.realize({whole.derivation: whole.output}, roots)
        result.detail = whole.output
    workshop.made_images.keep(machine, whole.output)
    return msgspec.structs.replace(action, image=whole.output, content=None, whole=None)


def _compressed(
    machine: VirtualMachine, action: CreateRoot, file: Path, workshop: Workshop
) -> None:
    """Have FILE, the root of MACHINE that ACTION makes, be small if it goes over a line.

    Half of it is the same for each group of the file system, and not in the store of anybody.
    """
    over_a_line = not workshop.connection.local and as_root(workshop.via) == "upload"
    if over_a_line and file.stat().st_blocks * 512 <= _SOON_COMPRESSED:
        # It stays as it is where there is no room for both.
        with suppress(ImageError, CommandFailedError):
            overlay.compress(file, Path(action.image), machine.image.disk_format)


def _grown(machine: VirtualMachine, action: CreateRoot, file: Path, workshop: Workshop) -> str:
    """Make FILE of the image of ACTION, grown; return how."""
    image, image_format = Path(action.image), machine.image.disk_format
    try:
        require_whole(image, image_format)
    except RequestRefusedError as error:
        error.location = str(machine.location)
        raise
    grown = grow(
        image,
        image_format,
        file,
        action.size,
        emit=workshop.emit,
        machine=machine.name,
    )
    return f"{format_size(action.size)} by {grown.method}"

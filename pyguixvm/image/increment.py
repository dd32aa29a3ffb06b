# SPDX-License-Identifier: GPL-3.0-or-later
"""A root volume for another system on an image that is there: what changed is written.

The result holds what Guix's own image of that system would hold, besides the
base's store items that are not needed any more: the system's closure, its
registration, its profile and its boot configuration, in a file system with the
same UUID.  The base is not written, and it takes neither FUSE nor root.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path, PurePosixPath

import msgspec

from pyguixvm import process
from pyguixvm.confinement import Confinement
from pyguixvm.image import debugfs, grow, partition, store_database
from pyguixvm.image.debugfs import Command
from pyguixvm.image.filesystem import PACKAGE_HINT
from pyguixvm.image.store_database import Registered
from pyguixvm.model.image import ImageContent
from pyguixvm.model.store_item import StoreItem

_STORE = "/gnu/store"
# That of an image has one generation (populate-root-file-system in gnu/build/install.scm).
_PROFILE = "/var/guix/profiles/system-1-link"
# Every file of a store is read-only, and its copy in /boot is a copy.
_BOOT_MODE = 0o444


class Base(msgspec.Struct, frozen=True):
    """The raw image at PATH and a copy of its DATABASE of store items, which lists REGISTERED."""

    path: Path
    database: Path
    registered: Registered


def examine(path: Path, directory: Path) -> Base:
    """Return what there is to know about the image at PATH; keep it in DIRECTORY.

    Raises DebugfsError and ImageError if there is no Guix System in it.
    """
    database = directory / "db.sqlite"
    debugfs.read_file(path, partition.read(path).last, store_database.FILE, database)
    return Base(path, database, store_database.read(database))


def increment(
    base: Base, overlay_file: Path, size: int, content: ImageContent, items: Sequence[StoreItem]
) -> None:
    """Make OVERLAY_FILE, a qcow2 image of SIZE bytes on BASE, that holds CONTENT.

    ITEMS are what its closure has and BASE lacks; they are in this machine's
    store.  Nothing is left behind when this fails or is interrupted.  Raises
    RequestRefusedError if SIZE is too small, DebugfsError and CommandFailedError.
    """
    grow.require_room(base.path, "raw", size)
    store_database.add(base.database, items)

    def edit(file_system: Path) -> None:
        debugfs.change(file_system, _commands(base, content, items))
        tune2fs = process.which("tune2fs", PACKAGE_HINT)
        process.run(
            [str(tune2fs), "-U", content.root_uuid, file_system.name],
            directory=file_system.parent,
            confined=Confinement(writes=(file_system,)),
        )

    with grow.new_overlay(base.path, "raw", overlay_file, size) as directory:
        written = sum(item.nar_size for item in items)
        grow.edited(base.path, overlay_file, size, edit, written, directory)


def _commands(base: Base, content: ImageContent, items: Sequence[StoreItem]) -> Iterator[Command]:
    yield debugfs.command("cd", _STORE)
    for item in items:
        yield from debugfs.store_item(Path(item.path), PurePosixPath(item.path).name)
    yield from debugfs.replaced_file(base.database, store_database.FILE, store_database.MODE)
    yield from debugfs.replaced_link(content.system.output, _PROFILE)
    yield from debugfs.replaced_file(
        Path(content.boot_configuration.output), content.boot_configuration_file, _BOOT_MODE
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""Base volumes: images that nobody writes to, which hold what their names say.

A root on other bits than those that it was made for has half of each file system.  So
what is there already is read before anything is laid on it: all of it where that is this
machine's, or incomplete as it seems, or written to since; elsewhere some of it.  What was
read once is known for as long as nobody writes to it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from shlex import quote
from typing import BinaryIO

from pyguixvm.advice import vol_delete
from pyguixvm.digest.content import CHUNK, Content, content_of, data_chunks
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Count, Emit, ignore, phase
from pyguixvm.hypervisor import download, volumes
from pyguixvm.hypervisor.connection import Connection, capabilities
from pyguixvm.hypervisor.new_volume import NewVolume, Place
from pyguixvm.hypervisor.upload import VolumeExistsError, uploader
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.model import volume_names

# Of what is not read as a whole, so many chunks at its begin, where file systems say when
# they were made, and as many from there to its end, which a broken copy lacks.
_SAMPLES = 8


def image_content(path: Path, digests: Digests, emit: Emit, machine: str | None = None) -> Content:
    """Return what the disk image PATH holds; it is read unless DIGESTS know it.

    Raises RequestRefusedError if it changes meanwhile.
    """
    found = digests.seen(path)
    if found is None:
        with phase(emit, "verify", machine, detail=str(path)) as result:
            found = digests.of(path, Count(emit, "verify", path.stat().st_size, machine).add)
            result.detail = str(path)
    return found


@dataclass(frozen=True)
class BaseVolumes:
    """Base volumes in POOL; what DIGESTS know of them is not read again.

    EMIT is told what goes on for the sake of MACHINE.  PLACE makes them; without,
    they are uploaded.
    """

    connection: Connection
    pool: str
    digests: Digests
    emit: Emit
    machine: str | None = None
    place: Place | None = None

    def seen(self, content: Content) -> Volume | None:
        """Return the volume that is named by CONTENT if it is there and whole."""
        name = volume_names.base_volume(content.digest)
        return volumes.whole(self.connection, self.pool, name)

    def provide(self, path: Path, content: Content, found: Volume | None = None) -> Volume:
        """Have the disk image PATH, which holds CONTENT, as a volume that is named by that.

        FOUND is what was `seen` just now, if anything.  A store item is for all to read; of
        anything else, only whom guests run as may read the volume.  Raises RequestRefusedError
        if there is one that holds something else.
        """
        name = volume_names.base_volume(content.digest)
        if found is None or found.name != name:
            found = self.seen(content)
        if found is None:
            try:
                return self._sent(path, name, content)
            except VolumeExistsError:
                # Somebody else made it while this was about to.
                return self.provide(path, content)
        self._require(found, path, content)
        return found

    def _sent(self, path: Path, name: str, content: Content) -> Volume:
        store_item = volume_names.is_store_item(str(path))
        mode, owner = (0o444, None) if store_item else _private(self.connection)
        place = self.place or uploader(self.connection, self.emit, self.machine)
        with phase(self.emit, "transfer", self.machine, detail=name) as result:
            with place(path, NewVolume(self.pool, name, mode, owner, resumable=True)) as made:
                if self.connection.local and self._held(made, ignore) != content:
                    raise HypervisorError(
                        f"volume '{name}' of pool '{self.pool}' does not hold what {path} holds",
                        hint="Run the command again when nobody writes to either.",
                    )
            result.detail = f"base volume {made.path}"
        self.digests.keep(self._what(made), self._stamp(made), content)
        return made

    def _require(self, volume: Volume, path: Path, content: Content) -> None:
        """Raise RequestRefusedError unless VOLUME holds CONTENT, as PATH does."""
        what, stamp = self._what(volume), self._stamp(volume)
        if self.digests.known(what, stamp) == content:
            return
        with phase(self.emit, "verify", self.machine, detail=volume.path) as result:
            if not self._is(volume, path, content):
                raise self._other(volume)
            result.detail = volume.path
        self.digests.keep(what, stamp, content)

    def _other(self, volume: Volume) -> RequestRefusedError:
        return RequestRefusedError(
            f"base volume '{volume.name}' of pool '{self.pool}' does not hold what it was made "
            "of: it was changed, or cut short",
            hint="Nothing is laid on it, and what stands on it may be damaged.  When nothing "
            "needs it any more, delete it, and it is made anew: "
            f"virsh -c {quote(self.connection.uri)} {vol_delete(self.pool, volume.name)}",
        )

    def _is(self, volume: Volume, path: Path, content: Content) -> bool:
        """Whether VOLUME holds CONTENT, as PATH does."""
        if volume.physical != content.size:
            return False
        # Less is allocated, too, where a file system compresses: that is worth a look.
        suspect = volume.allocation < content.data or self.digests.has(self._what(volume))
        if self.connection.local or suspect:
            return self._held(volume, self.emit) == content
        with path.open("rb") as file:
            return all(
                download.data(self.connection, volume, number * CHUNK, len(expected)) == expected
                for number, expected in _samples(file)
            )

    def _held(self, volume: Volume, emit: Emit) -> Content:
        """Return what VOLUME holds, all of which is read, and EMIT is told of."""
        count = Count(emit, "verify", volume.physical, self.machine)
        if self.connection.local:
            # Not everybody whom libvirtd serves may read the file.
            with suppress(OSError), Path(volume.path).open("rb") as file:
                return content_of(file, count.add)
        return download.content(self.connection, volume, count.add)

    def _what(self, volume: Volume) -> str:
        return f"volume {self.connection.uri} {volume.path}"

    def _stamp(self, volume: Volume) -> str:
        """Return what is not the same when VOLUME was written to, or another one is there.

        The time of its last change of status is: security labels are set whenever a guest
        starts.
        """
        inode = None
        if self.connection.local:
            with suppress(OSError):
                inode = Path(volume.path).stat().st_ino
        return f"{inode} {volume.physical} {volume.modified}"


def _samples(file: BinaryIO) -> Iterator[tuple[int, bytes]]:
    """Yield the numbers of some chunks of FILE, and what they hold."""
    chunks = list(data_chunks(file))
    last = len(chunks) - 1
    spread = [chunks[last * step // _SAMPLES] for step in range(1, _SAMPLES + 1)] if chunks else []
    for number in sorted({*chunks[:_SAMPLES], *spread}):
        yield number, os.pread(file.fileno(), CHUNK, number * CHUNK)


def _private(connection: Connection) -> tuple[int, int | None]:
    """Return mode and owner of a volume that is given to guests, and to nobody else.

    Libvirt leaves it as it is (`xml.storage`), whichever guests use it.
    """
    user = capabilities(connection).qemu_user
    # Where guests run as whoever makes it, that user has to be able to fill it.
    return (0o600, None) if user is None else (0o400, user)

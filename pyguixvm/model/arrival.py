# SPDX-License-Identifier: GPL-3.0-or-later
"""What a machine remembers of the move that brought it, until nothing of it is left there."""

from __future__ import annotations

import hashlib

import msgspec

from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.usage import Address


class SentVolume(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """A volume of POOL that a machine had where it came from, and has now.

    STAMP says how its file was when it was sent, see `stamp`; None where it was written to
    since, as the disks of a guest that runs are.
    """

    pool: str
    volume: str
    stamp: str | None = None

    @property
    def address(self) -> Address:
        """Its pool and its name, on both hypervisors."""
        return self.pool, self.volume


class SentVariables(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """What UEFI firmware keeps, which was the file PATH where it came from.

    It is VOLUME of POOL now; None where libvirt chooses its file for a guest that runs, or there
    was none.  DIGEST is that of what was sent; None where it was written to since.
    """

    path: str
    pool: str | None = None
    volume: str | None = None
    digest: str | None = None


class Arrival(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """That a machine comes from the hypervisor SOURCE, which URI led to.

    VOLUMES are those that it had there, which go when it has nothing there any more.  FENCED:
    it may be defined there, too, and cannot be started here: its definition names a disk that
    does not exist.  DEFINITION is a digest of what it was defined by where it comes from, None if
    it was moved while it ran.  AUTOSTART: it starts with its host when it can be started.
    VARIABLES are those of its firmware, if it has any.
    """

    uri: str
    source: Hypervisor
    volumes: tuple[SentVolume, ...]
    autostart: bool = False
    fenced: bool = False
    definition: str | None = None
    variables: SentVariables | None = None

    @property
    def come(self) -> tuple[SentVolume, ...]:
        """All that was made for it where it is now."""
        sent = self.variables
        if sent is None or sent.pool is None or sent.volume is None:
            return self.volumes
        return (*self.volumes, SentVolume(sent.pool, sent.volume))


def digest(xml: str) -> str:
    """Return what a domain that is defined by XML has until it is defined otherwise."""
    return hashlib.sha256(xml.encode()).hexdigest()


def stamp(physical: int, modified: str | None) -> str:
    """Return what a file of PHYSICAL bytes, MODIFIED then, has until it is written to."""
    return f"{physical} {modified}"

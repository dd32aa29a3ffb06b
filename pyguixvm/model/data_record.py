# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hypervisor remembers of the volume of a data disk, longer than of its machine."""

from __future__ import annotations

import msgspec

from pyguixvm.model.usage import Address
from pyguixvm.model.volume_names import data_of


class DataRecord(msgspec.Struct, frozen=True, rename="kebab", omit_defaults=True):
    """That VOLUME is of POOL for a data disk, at PATH; whether it is there, it says not.

    UUID is that of the domain which had it last, and DEPLOYMENT the one which that machine
    belonged to, None if that has no name.  SIZE is in bytes.  IDENTITY is what the image has in
    its header, see `volume_identity`.  What is None was not written, or cannot be read.
    MAKING: whether it was ever made to the end is not known.
    """

    pool: str
    volume: str
    path: str | None = None
    uuid: str | None = None
    deployment: str | None = None
    size: int | None = None
    file_system: str | None = None
    identity: str | None = None
    making: bool = False

    @property
    def address(self) -> Address:
        """Its pool and its name."""
        return self.pool, self.volume

    @property
    def machine(self) -> str | None:
        """The name of the machine that it is called by."""
        named = data_of(self.volume)
        return None if named is None else named[0]


class FoundRecord(msgspec.Struct, frozen=True, rename="kebab"):
    """A RECORD; FOUND is the identity of the volume that is in its place, None if it has none."""

    record: DataRecord
    found: str | None = None

    @property
    def is_another(self) -> bool:
        """Whether the volume in its place is not the one that was recorded."""
        return self.record.identity is not None and self.record.identity != self.found

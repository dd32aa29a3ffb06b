# SPDX-License-Identifier: GPL-3.0-or-later
"""What is listed of machines."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.observation import State
from pyguixvm.model.provenance import Provenance

VolumeState: TypeAlias = Literal["in use", "kept", "unknown", "unfinished", "gone", "pool inactive"]


class Listed(msgspec.Struct, frozen=True, rename="kebab"):
    """A machine; MEMORY is in bytes.  Of what is not ours, GENERATION and LABEL are null."""

    name: str
    state: State
    cpu: int
    memory: int
    autostart: bool
    generation: int | None
    label: str | None
    addresses: tuple[str, ...]


class ListedGeneration(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """Generation NUMBER of a machine, made at DATE; FAILED: it did not get ready in time.

    Its root is VOLUME in POOL, which takes SIZE bytes, null if it is gone.  It stands on IMAGE,
    by way of volume BASE if there is one, and of the volumes UNDER it, those of generations
    that were changed in place; INCREMENT is the size (bytes) of what its system has beside the
    image, null if it is the image as it is.  DOWNTIME is how long (seconds) the machine was
    away when it switched to it.  PROVENANCE is null where it was not recorded.
    """

    machine: str
    number: int
    date: str
    current: bool
    failed: bool
    label: str
    kernel: str | None
    image: str
    pool: str
    volume: str
    base: str | None
    size: int | None
    increment: int | None
    under: tuple[str, ...]
    downtime: float | None
    provenance: Provenance | None


class ListedVolume(msgspec.Struct, frozen=True, kw_only=True, rename="kebab"):
    """VOLUME of POOL, which is, or was, for the data disk DISK of MACHINE.

    STATE is "in use", by what DETAIL says, or "kept": nothing uses it; "unknown": neither, and it
    is not recorded, or not the one that was; "unfinished": its making goes on, or was broken off;
    "gone" and "pool inactive": there is nothing but the record.  SIZE is what a guest sees,
    ALLOCATION what it takes (bytes).  UUID is that of the domain which had it last, DEPLOYMENT
    what that belonged to, and FILE-SYSTEM what it was formatted with, as far as that is recorded.
    """

    pool: str
    volume: str
    machine: str
    disk: str
    uuid: str | None
    deployment: str | None
    size: int | None
    allocation: int | None
    file_system: str | None
    state: VolumeState
    detail: str | None

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is listed of machines."""

from __future__ import annotations

import msgspec

from pyguixvm.model.observation import State


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
    away when it switched to it.
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

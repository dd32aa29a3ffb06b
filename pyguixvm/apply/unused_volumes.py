# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes are deleted here, and only if nothing uses them."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from pathlib import Path

from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor import volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.usage import observe_usage
from pyguixvm.image import overlay
from pyguixvm.model.usage import Address, Kept, Usage


def usage(connection: Connection) -> Usage:
    """Return what uses which volumes on the hypervisor of CONNECTION."""
    return observe_usage(connection, _below if connection.local else lambda _: None)


def _below(file: str) -> str | None:
    """Return what FILE, which is on this machine, stands on, if it is known."""
    # A device, something that is gone, or what only others may read.
    with suppress(PyguixvmError, OSError):
        if Path(file).is_file():
            backing = overlay.inspect(Path(file)).backing
            return None if backing is None else str(backing)
    return None


def delete_unused(connection: Connection, wanted: Iterable[Address]) -> tuple[Kept, ...]:
    """Delete the volumes WANTED; return those that stay, since something else uses them."""
    wanted = tuple(wanted)
    return delete_others(connection, wanted, usage(connection).kept(wanted))


def delete_others(
    connection: Connection, wanted: Iterable[Address], kept: Collection[Kept]
) -> tuple[Kept, ...]:
    """Delete the volumes WANTED but those KEPT, which are returned."""
    staying = {(each.pool, each.volume) for each in kept}
    for pool, volume in wanted:
        if (pool, volume) not in staying:
            volumes.delete(connection, pool, volume)
    return tuple(kept)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes in the making: a marker volume stands beside one until it is whole.

Libvirt can neither rename volumes nor lock them, but creating one is atomic.
The marker's capacity is a random number: it tells whose marker it is.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from functools import partial

import libvirt
import msgspec

from pyguixvm.errors import HypervisorError, PyguixvmError
from pyguixvm.events import Emit, Event, Notice
from pyguixvm.hypervisor import pools, usage, volumes
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.machine_lock.wait import Tempo
from pyguixvm.model import volume_names
from pyguixvm.xml.volume import VolumeDefinition

# Markers are sparse: this is no space, only a range of numbers.
_TOKENS = 2**30


@contextmanager
def incomplete_until_done(
    connection: Connection,
    pool: str,
    name: str,
    *,
    goes_on: bool = False,
    worth_keeping: Callable[[], bool] = lambda: False,
) -> Iterator[None]:
    """Mark volume NAME as incomplete while the body makes it, or GOES_ON with it.

    If the body fails, the volume is deleted together with its marker, unless a domain
    refers to it already: then it is whole, whatever came after; or unless it is WORTH_KEEPING
    for whoever goes on with it.  If not even that
    succeeds, both stay and tell their story.  Raises `HypervisorError` if somebody
    else took over meanwhile.
    """
    token = secrets.randbelow(_TOKENS)
    marker = _marked(connection, pool, name, token, goes_on=goes_on)
    try:
        yield
    except BaseException:
        with suppress(PyguixvmError):
            if not worth_keeping() and _is_mine(marker, name, token):
                _give_up(connection, pool, name)
        raise
    if not _is_mine(marker, name, token):
        raise HypervisorError(
            f"somebody else began to make volume '{name}' in pool '{pool}' meanwhile",
            hint="run the command again when that is done",
        )
    _delete_marker(marker, pool, name, token)


@dataclass(frozen=True)
class Room:
    """Where a volume is to be made: the NAMES of those that are there, and what is FREE (bytes)."""

    names: frozenset[str]
    free: Callable[[], int]


@contextmanager
def made_by_us(  # noqa: PLR0917 -- what is made where, who is told, and how long things take
    connection: Connection,
    pool: str,
    name: str,
    emit: Emit,
    machine: str | None = None,
    tempo: Tempo | None = None,
    *,
    keep: bool = False,
) -> Iterator[Room]:
    """Have nobody else make volume NAME of POOL while the body runs; wait as long as one does.

    What is there then is yielded.  It is a lock as those of machines are:
    who makes it has died if it was silent for the patience of TEMPO, or is known to have.  EMIT
    is told for whom MACHINE waits.  What is broken off is deleted then, unless it is to KEEP, or
    something stands on it already.  Raises HypervisorError.
    """

    def told(event: Event) -> None:
        if isinstance(event, Notice):
            event = msgspec.structs.replace(event, machine=machine)
        emit(event)

    with held(connection, [f"{pool}/{name}"], told, "upload", tempo or Tempo()):
        free = begun(partial(pools.free_space, connection, pool), far=not connection.local)
        there = volumes.all_names(connection, pool)
        if volume_names.marker(name) in there:
            _give_up(connection, pool, name, keep=keep)
            there = volumes.all_names(connection, pool)
        yield Room(there, free)


def take_over(
    connection: Connection, pool: str, name: str, emit: Emit, *, marked: bool = True
) -> None:
    """Delete what a broken off upload left of volume NAME, see `made_by_us`.

    It goes as well if it is not MARKED, since it cannot be, see `condemn`.
    """
    with made_by_us(connection, pool, name, emit):
        if not marked:
            _give_up(connection, pool, name)


@dataclass(frozen=True)
class Condemned:
    """Volume NAME of POOL, which MARKER, with TOKEN, says is about to be deleted."""

    pool: str
    name: str
    marker: libvirt.virStorageVol
    token: int

    def reprieve(self) -> None:
        """Have it count as whole again, unless somebody makes it anew by now."""
        if _is_mine(self.marker, self.name, self.token):
            _delete_marker(self.marker, self.pool, self.name, self.token)


def condemn(connection: Connection, pool: str, name: str) -> Condemned | None:
    """Mark volume NAME as one that nobody needs any more, about to be deleted.

    Nobody takes it for whole from now on.  Whoever is killed before it is deleted leaves what
    the next `gc` takes for broken off, instead of a whole volume that nobody remembers.  What
    cannot be marked, as on a full disk, is not: None.
    """
    with suppress(PyguixvmError):
        if volumes.is_whole(connection, pool, name):
            token = secrets.randbelow(_TOKENS)
            marker = _marked(connection, pool, name, token, goes_on=False)
            return Condemned(pool, name, marker, token)
    return None


def _marked(
    connection: Connection, pool: str, name: str, token: int, *, goes_on: bool
) -> libvirt.virStorageVol:
    """Return the marker beside volume NAME, with TOKEN; it was there before if the work GOES_ON.

    Then there is one all the time: without, the volume would count as whole.
    """
    if not goes_on:
        return volumes.create_handle(
            connection, pool, VolumeDefinition(name=volume_names.marker(name), capacity=token)
        )
    with explained(f"take over the marker of volume '{name}'"):
        marker = volumes.find_handle(connection, pool, volume_names.marker(name))
        if marker is None:
            raise HypervisorError(
                f"somebody else made volume '{name}' of pool '{pool}' meanwhile",
                hint="run the command again",
            )
        marker.resize(token, libvirt.VIR_STORAGE_VOL_RESIZE_SHRINK)
        return marker


def _give_up(connection: Connection, pool: str, name: str, *, keep: bool = False) -> None:
    """Delete volume NAME unless it is to KEEP, or if anything uses it, have it count as whole."""
    if _is_used(connection, pool, name):
        volumes.delete_marker(connection, pool, name)
    elif not keep:
        volumes.delete(connection, pool, name)


def _is_used(connection: Connection, pool: str, name: str) -> bool:
    """Whether volume NAME is one that a domain refers to, or a base that something stands on.

    A root that is not whole may have the throwaway copy on it of who was killed.
    """
    if volume_names.is_base(name):
        return bool(usage.observe_usage(connection, lambda _file: None).kept([(pool, name)]))
    volume = volumes.lookup(connection, pool, name)
    return volume is not None and usage.is_used(connection, volume.path)


def _is_mine(marker: libvirt.virStorageVol, name: str, token: int) -> bool:
    """Whether MARKER is still that of volume NAME which was made with TOKEN.

    Libvirt finds it by its name: another one of that name may be in its place.
    """
    with explained(f"look at the marker of volume '{name}'"):
        try:
            return bool(marker.info()[1] == token)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_STORAGE_VOL, libvirt.VIR_ERR_NO_STORAGE_POOL):
                return False
            raise


def _delete_marker(marker: libvirt.virStorageVol, pool: str, name: str, token: int) -> None:
    """Delete MARKER, the one of volume NAME of POOL with TOKEN: that is whole from now on.

    It goes over the next line if this one is cut meanwhile, which is no risk: by its token it is
    known whether it is still there.
    """
    with explained(f"delete the marker of volume '{name}' from pool '{pool}'"):
        try:
            marker.delete(0)
        except libvirt.libvirtError:
            if _is_mine(marker, name, token):
                marker.delete(0)

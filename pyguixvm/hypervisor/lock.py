# SPDX-License-Identifier: GPL-3.0-or-later
"""The right to change a machine, held by one at a time wherever they are.

Libvirt has no locks for its users, but to create a volume is atomic.  The holder
writes to it every few seconds; one that does not any more has died.
"""

from __future__ import annotations

import getpass
import os
import secrets
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import UTC, datetime

import libvirt
import msgspec

from pyguixvm.errors import PyguixvmError, RequestRefusedError
from pyguixvm.events import Emit, Notice
from pyguixvm.hypervisor import pools, volumes
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.failure import explained
from pyguixvm.model import names
from pyguixvm.xml.volume import VolumeDefinition, written

# How often a holder shows that it lives, and after how long (seconds) without it has died.
_BEAT_SECONDS = 5.0
_PATIENCE = 20.0
_POLL_SECONDS = 0.5
_SIZE = 4096


class Holder(msgspec.Struct, frozen=True):
    """Who holds a lock; SINCE is UTC in ISO 8601, TOKEN makes it unique."""

    user: str
    host: str
    pid: int
    since: str
    token: str

    def __str__(self) -> str:
        """In words, for whoever waits."""
        return f"{self.user}@{self.host} (process {self.pid}) since {self.since}"


@contextmanager
def held(
    connection: Connection,
    pool: str,
    machine: str,
    emit: Emit,
    sleep: Callable[[float], None] = time.sleep,
) -> Iterator[None]:
    """Hold the lock of MACHINE in POOL, made if need be, while the body runs.

    Waits, and says for whom, as long as another holds it.
    """
    pools.ensure_pool(connection, pool)
    name = names.lock_volume(machine)
    me = _me()
    told = False
    while not _try(connection, pool, name, me):
        holder = _holder(connection, pool, name)
        if not told and not _is_gone(holder):
            emit(Notice(f"waiting: it is being changed by {holder or 'somebody'}", machine))
            told = True
        # Unless somebody else was faster to take over.
        if (_is_gone(holder) or _is_silent(connection, pool, name, sleep)) and _holder(
            connection, pool, name
        ) == holder:
            volumes.delete(connection, pool, name)
    done = threading.Event()
    beat = threading.Thread(
        target=_beat,
        args=(connection, pool, name, me, done),
        name=f"lock of {machine}",
        daemon=True,
    )
    beat.start()
    try:
        yield
    finally:
        done.set()
        beat.join()
        with suppress(PyguixvmError):
            if _holder(connection, pool, name) == me:
                volumes.delete(connection, pool, name)


def _me() -> Holder:
    try:
        user = getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        user = str(os.getuid())
    return Holder(
        user=user,
        host=socket.gethostname(),
        pid=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        token=secrets.token_hex(8),
    )


def _try(connection: Connection, pool: str, name: str, me: Holder) -> bool:
    try:
        volumes.create(connection, pool, VolumeDefinition(name=name, capacity=_SIZE, mode=0o644))
    except RequestRefusedError:
        return False
    _write(connection, pool, name, me)
    return True


def _write(connection: Connection, pool: str, name: str, me: Holder) -> None:
    data = msgspec.json.encode(me).ljust(_SIZE)
    with explained(f"write to volume '{name}'"):
        volume = volumes.find_handle(connection, pool, name)
        if volume is None:
            return
        stream = connection.handle.newStream(0)
        volume.upload(stream, 0, len(data), 0)
        stream.send(data)
        stream.finish()


def _holder(connection: Connection, pool: str, name: str) -> Holder | None:
    """Return who holds the lock, or None if nobody does, or has not said so yet."""
    with suppress(PyguixvmError, msgspec.DecodeError), explained(f"read volume '{name}'"):
        volume = volumes.find_handle(connection, pool, name)
        if volume is None:
            return None
        stream = connection.handle.newStream(0)
        volume.download(stream, 0, _SIZE, 0)
        data = b""
        while chunk := stream.recv(_SIZE):
            data += chunk
        stream.finish()
        return msgspec.json.decode(data.rstrip(b"\0 "), type=Holder)
    return None


def _is_gone(holder: Holder | None) -> bool:
    """Whether HOLDER is known to have died, without waiting for it to beat."""
    return holder is not None and holder.host == socket.gethostname() and not _runs(holder.pid)


def _is_silent(
    connection: Connection, pool: str, name: str, sleep: Callable[[float], None]
) -> bool:
    """Wait until the holder shows that it lives, or was given the time to; whether it did not."""
    before = _state(connection, pool, name)
    if not before:  # let go of meanwhile
        return False
    for _ in range(int(_PATIENCE / _POLL_SECONDS)):
        sleep(_POLL_SECONDS)
        if _state(connection, pool, name) != before:
            return False
    return True


def _runs(pid: int) -> bool:
    """Whether process PID is there, on this machine."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        pass
    return True


def _state(connection: Connection, pool: str, name: str) -> tuple[object, ...]:
    with explained(f"look at volume '{name}' in pool '{pool}'"):
        volume = volumes.find_handle(connection, pool, name)
        return () if volume is None else written(volume.XMLDesc(0))


def _beat(connection: Connection, pool: str, name: str, me: Holder, done: threading.Event) -> None:
    while not done.wait(_BEAT_SECONDS):
        with suppress(PyguixvmError, libvirt.libvirtError):
            _write(connection, pool, name, me)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Wait for the lock of a machine: until it is let go of, or its holder died."""

from __future__ import annotations

from collections.abc import Callable

import libvirt
import msgspec

from pyguixvm.events import Emit, Notice
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.machine_lock import secret
from pyguixvm.hypervisor.machine_lock.holder import Holder, has_died

# If it is taken, and nobody has it, so often in turn: that is no chance any more.
_ATTEMPTS = 50


class Tempo(msgspec.Struct, frozen=True):
    """How often a holder beats and a waiter looks; who is silent for PATIENCE died (seconds)."""

    beat: float = 3.0
    look: float = 0.5
    patience: float = 30.0


def wait_for(  # noqa: PLR0917 -- what is wanted by whom, and how it is waited for
    connection: Connection,
    machine: str,
    token: str,
    me: Holder,
    tempo: Tempo,
    emit: Emit,
    sleep: Callable[[float], None],
) -> libvirt.virSecret:
    """Take the lock of MACHINE as TOKEN for ME; as long as another has it, tell EMIT who that is.

    Return the secret that stands for it.  Raises libvirtError.
    """
    told = False
    vanished = 0
    while True:
        try:
            return secret.define(connection, machine, token, me)
        except libvirt.libvirtError as error:
            if not secret.is_taken(error) or vanished == _ATTEMPTS:
                raise
        found = secret.find(connection, machine)
        if found is None:
            vanished += 1
            continue
        vanished = 0
        if not told and not _has_died(found):
            emit(Notice(f"waiting: it is being changed by {_who(found)}", machine))
            told = True
        if _outlived(connection, found, tempo, sleep):
            if not _has_died(found):
                text = f"taken over from {_who(found)}: silent for {tempo.patience:.0f} s"
                emit(Notice(text, machine, warning=True))
            secret.remove(connection, found.token)


def _outlived(
    connection: Connection, found: secret.Found, tempo: Tempo, sleep: Callable[[float], None]
) -> bool:
    """Wait until the lock FOUND is let go of, False, or its holder died, True.

    Silence is counted in looks, not on a clock: if this process was stopped, or
    libvirtd, that is no silence of the holder's.
    """
    before, silent = None, 0
    while silent * tempo.look < tempo.patience:
        if _has_died(found):
            return True
        now = secret.value(connection, found.token)
        if now is None:
            return False
        silent = silent + 1 if now == before else 0
        before = now
        sleep(tempo.look)
    return True


def _has_died(found: secret.Found) -> bool:
    return found.holder is not None and has_died(found.holder)


def _who(found: secret.Found) -> str:
    return "somebody" if found.holder is None else str(found.holder)

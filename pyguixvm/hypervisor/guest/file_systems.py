# SPDX-License-Identifier: GPL-3.0-or-later
"""The file systems of a guest's data disks grow in the guest."""

from __future__ import annotations

import time
from collections.abc import Callable

import msgspec

from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.guest import agent

_HERD = "/run/current-system/profile/bin/herd"
_PATIENCE = 30.0
_POLL_SECONDS = 1.0


class _Started(msgspec.Struct, frozen=True):
    pid: int


class _Status(msgspec.Struct, frozen=True):
    exited: bool
    exitcode: int | None = None


def grow_file_systems(
    connection: Connection,
    name: str,
    sleep: Callable[[float], None] = time.sleep,
    patience: float = _PATIENCE,
) -> bool:
    """Have the guest of NAME grow the file systems of its data disks; whether it did.

    It has PATIENCE (seconds).  It takes a guest agent that may run programs, and the
    service of guix/pyguixvm/system/guest.scm.
    """
    domain = domains.our_domain(connection, name)
    if not agent.connected(domain):
        return False
    started = agent.ask(
        domain, "guest-exec", _Started, path=_HERD, arg=["start", "grow-data-disks"]
    )
    deadline = time.monotonic() + patience
    pause = 0.1
    while started is not None:
        status = agent.ask(domain, "guest-exec-status", _Status, pid=started.pid)
        if status is None or status.exited:
            return status is not None and status.exitcode == 0
        if time.monotonic() >= deadline:
            break
        sleep(pause)
        pause = min(2 * pause, _POLL_SECONDS)
    return False

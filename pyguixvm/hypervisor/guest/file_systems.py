# SPDX-License-Identifier: GPL-3.0-or-later
"""The file systems of a guest's data disks grow in the guest."""

from __future__ import annotations

import time
from collections.abc import Callable

from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.guest import agent, program

_HERD = "/run/current-system/profile/bin/herd"
_PATIENCE = 30.0


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
    start = ("start", "grow-data-disks")
    ran = program.run(domain, _HERD, start, patience, sleep, answer=agent.SECONDS)
    return ran is not None and ran.status == 0

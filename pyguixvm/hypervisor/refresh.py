# SPDX-License-Identifier: GPL-3.0-or-later
"""Have a pool look at its directory again, in which others put, and change, files."""

from __future__ import annotations

import time

import libvirt

from pyguixvm.hypervisor.errors import is_code
from pyguixvm.interruption import pause

# A pool in which a volume is being made refuses, and does so for a moment, as a rule: ours are
# thin.  Somebody's large one is not waited for (seconds).
_PATIENCE = 30.0
_POLL_SECONDS = 0.05


def refresh(pool: libvirt.virStoragePool) -> None:
    """Refresh POOL, as soon as it lets us.  Raises libvirtError."""
    until = time.monotonic() + _PATIENCE
    while True:
        try:
            pool.refresh(0)
        except libvirt.libvirtError as error:
            if not is_busy(error) or time.monotonic() >= until:
                raise
        else:
            return
        pause(_POLL_SECONDS)


def is_busy(error: libvirt.libvirtError) -> bool:
    """Whether ERROR says that a pool is at work; that has no code of its own."""
    return is_code(error, libvirt.VIR_ERR_INTERNAL_ERROR) and "asynchronous jobs" in str(error)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes below the root disk that a running guest writes to become one.

virDomainBlockCommit between two of them: what the upper ones hold is written to the lowest,
which takes their place.  Ended anywhere, with QEMU or before it, what the uppermost shows is
as it was, and it can be begun again.
"""

from __future__ import annotations

from collections.abc import Callable

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which, our_domain
from pyguixvm.hypervisor.errors import explained
from pyguixvm.xml.inspection import inspect_domain

_ROOT = "vda"
_PAUSE = 0.05


def below_root(connection: Connection, name: Which) -> tuple[str, ...]:
    """Return the files that the root of the running guest of domain NAME stands on."""
    domain = our_domain(connection, name)
    with explained(f"see what the root of domain '{name}' stands on"):
        return _below_root(domain)


def _below_root(domain: libvirt.virDomain) -> tuple[str, ...]:
    stacks = inspect_domain(domain.XMLDesc(0)).hardware.stacks
    return next((disk.below or () for disk in stacks if disk.target == _ROOT), ())


def commit(  # noqa: PLR0917 -- where, what into what, and who is told
    connection: Connection,
    name: Which,
    top: str,
    base: str,
    progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
    sleep: Callable[[float], None],
) -> bool:
    """Merge the files from TOP down to BASE, below the root of domain NAME, into BASE.

    PROGRESS is told how many bytes are done, of how many.  Return whether it is over: not if
    it is WANTED no more, then it goes on.  Raises HypervisorError if it ends otherwise.
    """
    domain = our_domain(connection, name)
    with explained(f"merge volumes below the root of domain '{name}'"):
        # One that was left to itself goes on.
        if not domain.blockJobInfo(_ROOT, 0):
            if top not in _below_root(domain):
                return True
            domain.blockCommit(_ROOT, base, top, 0, 0)
        while found := domain.blockJobInfo(_ROOT, 0):
            progress(found["cur"], found["end"])
            if not wanted():
                return False
            sleep(_PAUSE)
        if top in _below_root(domain):
            raise HypervisorError(
                f"volumes below the root of domain '{name}' were not merged",
                hint="The log of its QEMU says why: /var/log/libvirt/qemu on the hypervisor.",
            )
    return True

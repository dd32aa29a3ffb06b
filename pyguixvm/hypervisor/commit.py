# SPDX-License-Identifier: GPL-3.0-or-later
"""Volumes below the root disk that a running guest writes to become one.

virDomainBlockCommit between two of them: what the upper ones hold is written to the lowest,
which takes their place.  Ended anywhere, with QEMU or before it, what the uppermost shows is
as it was, and it can be begun again.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, TypeAlias

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which, our_domain
from pyguixvm.hypervisor.errors import explained
from pyguixvm.xml.inspection import inspect_domain

_ROOT = "vda"
_PAUSE = 0.05
Stage: TypeAlias = Literal["to do", "going on", "over"]


def stage(connection: Connection, name: Which, files: Sequence[str]) -> Stage:
    """Return how far it is that FILES, below the root of the running domain NAME, become one.

    They stand on each other, the uppermost first.  Raises HypervisorError where they do not
    stand below the root, or where libvirt does something else there.
    """
    domain = our_domain(connection, name)
    with explained(f"see whether volumes below the root of domain '{name}' are being merged"):
        return _stage(domain, name, files)


def _stage(domain: libvirt.virDomain, name: Which, files: Sequence[str]) -> Stage:
    if job := domain.blockJobInfo(_ROOT, 0):
        if not _is_commit(job):
            raise HypervisorError(
                f"libvirt does something else with the root of domain '{name}'",
                hint=f"'virsh blockjob {name} {_ROOT}' shows what, and how far that is.",
            )
        return "going on"
    (root, *below), (*gone, base) = _chain(domain), files
    begin = below.index(gone[0]) if gone[0] in below else None
    if begin is not None and below[begin : begin + len(files)] == list(files):
        return "to do"
    if base in below and not {root, *below}.intersection(gone):
        return "over"
    # Whatever the lowest holds, others may have brought this about.
    raise HypervisorError(
        f"the root of domain '{name}' does not stand on {', '.join(files)} any more",
        hint=f"'virsh domblklist {name}' and 'qemu-img info --backing-chain' show what it stands "
        "on.",
    )


def _is_commit(job: Mapping[str, int]) -> bool:
    """Whether JOB merges files below the one that is written to, as ours do."""
    return bool(job["type"] == libvirt.VIR_DOMAIN_BLOCK_JOB_TYPE_COMMIT)


def commit(  # noqa: PLR0917 -- where, what, and who is told
    connection: Connection,
    name: Which,
    files: Sequence[str],
    progress: Callable[[int, int], None],
    wanted: Callable[[], bool],
    sleep: Callable[[float], None],
) -> bool:
    """Merge FILES, below the root of domain NAME, into the lowest, the last of them.

    PROGRESS is told how many bytes are done, of how many.  Return whether it is over: not if
    it is WANTED no more, then it goes on.  Raises HypervisorError if it ends otherwise, and as
    `stage` does.
    """
    domain = our_domain(connection, name)
    with explained(f"merge volumes below the root of domain '{name}'"):
        # One that was left to itself goes on.
        if _stage(domain, name, files) == "to do":
            domain.blockCommit(_ROOT, files[-1], files[0], 0, 0)
        while (found := domain.blockJobInfo(_ROOT, 0)) and _is_commit(found):
            progress(found["cur"], found["end"])
            if not wanted():
                return False
            sleep(_PAUSE)
        if _stage(domain, name, files) != "over":
            raise HypervisorError(
                f"volumes below the root of domain '{name}' were not merged",
                hint="The log of its QEMU says why: /var/log/libvirt/qemu on the hypervisor.",
            )
    return True


def _chain(domain: libvirt.virDomain) -> tuple[str, ...]:
    """Return the file that the guest of DOMAIN has its root in, and those that it stands on."""
    stacks = inspect_domain(domain.XMLDesc(0)).hardware.stacks
    roots = ((disk.source, *(disk.below or ())) for disk in stacks if disk.target == _ROOT)
    return next(roots, ("",))

# SPDX-License-Identifier: GPL-3.0-or-later
"""What got ready in a throwaway copy is not booted in another one.

A copy whose memory is saved and resumed would show that the guest which booted then goes on,
and nothing of how its system boots.  That it booted can be remembered: this takes no memory on
a disk, with the secrets of a guest in it, that somebody has to find and remove.
"""

from __future__ import annotations

import hashlib

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.hypervisor import domains, host, networks
from pyguixvm.hypervisor.connection import capabilities
from pyguixvm.model.applied import Tried
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import DirectBoot, SharedStore, SystemImage
from pyguixvm.xml.capabilities import choose_domain_type


def trial_digest(
    machine: VirtualMachine, size: int, direct: DirectBoot | None, workshop: Workshop
) -> str | None:
    """Return what a copy of MACHINE with a root of SIZE bytes is, started by DIRECT if not None.

    The same system, in the same time, on the same hardware, networks and host, by the same
    programs there has the same.
    None where it would see what may be another by then: an image that Guix did not make, and
    directories of the host.
    """
    image, connection = machine.image, workshop.connection
    named = (
        image.content
        if isinstance(image, SystemImage)
        else image.system
        if isinstance(image, SharedStore)
        else None
    )
    if named is None or machine.domain.mount_points:
        return None
    offered = capabilities(connection).domain_types
    by = choose_domain_type(machine, offered, workshop.environment.get("PYGUIXVM_VIRT_TYPE"))
    # It may have moved since, and whoever keeps the host may have changed it.
    place = (by, host.seen_by_guests(connection, by), networks.definitions(connection, machine))
    wanted = (image, machine.domain, machine.ready, machine.ready_timeout)
    what = (wanted, size, direct, place)
    return hashlib.sha256(msgspec.json.encode(what)).hexdigest()


def tried_before(name: str, digest: str | None, workshop: Workshop) -> Tried | None:
    """Return when a copy of machine NAME that is what DIGEST says was ready, if the last was."""
    found = domains.find_definition(workshop.connection, name)
    tried = found[1].tried if found else None
    return tried if tried is not None and tried.digest == digest else None


def remember_tried(name: str, digest: str | None, workshop: Workshop) -> None:
    """Remember that a copy of machine NAME, which is what DIGEST says, got ready.

    What is not there yet has no place for that.
    """
    found = domains.find_definition(workshop.connection, name)
    if found is None or digest is None:
        return
    _, metadata, domain = found
    tried = Tried(digest, workshop.now().isoformat(timespec="seconds"))
    workshop.require(name)
    domains.write_metadata(
        workshop.connection, domain, msgspec.structs.replace(metadata, tried=tried)
    )

# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's domain is defined, or defined anew in place."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from uuid import uuid4

import msgspec

from pyguixvm.apply.backing_chain import writable
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.data_disk import attached_disks
from pyguixvm.apply.data_records import record_attached
from pyguixvm.apply.root_volume import Root
from pyguixvm.events import phase
from pyguixvm.hypervisor import domains, networks, volumes
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.connection import Connection, capabilities
from pyguixvm.hypervisor.domains import Domain, Which
from pyguixvm.hypervisor.host_parts import HostParts
from pyguixvm.hypervisor.observe_domain import observe_domain
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import BlockDevice, VirtualMachine
from pyguixvm.model.observation import HostPart, ObservedDomain
from pyguixvm.model.usage import Address
from pyguixvm.plan.actions import DefineDomain
from pyguixvm.plan.disks import all_disks
from pyguixvm.plan.interference import (
    require_arrived,
    require_no_memory,
    require_own_disks,
    require_volumes,
)
from pyguixvm.plan.plan import CHANGING_GUESTS, MachinePlan
from pyguixvm.xml.capabilities import choose_domain_type
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.storage import AttachedDisk
from pyguixvm.xml.update import Removed, updated_xml


def define(
    plan: MachinePlan,
    action: DefineDomain,
    root: Root | None,
    deployment: str | None,
    workshop: Workshop,
) -> None:
    """Define the domain of PLAN with ROOT, or with the root of a generation that it has.

    DEPLOYMENT is the name of the one that declares the machine, if it has one.
    """
    with definition_to_be(plan, action, root, deployment, workshop) as to_be:
        define_by(plan.machine.name, to_be, action, workshop)


@dataclass(frozen=True)
class ToBe:
    """The XML to define a domain by, and that DOMAIN as it is, None if it is to be made.

    It is defined by BEFORE so far, with AUTOSTART, and is on GENERATION then.
    """

    xml: str
    generation: Generation
    domain: Domain | None = None
    before: str | None = None
    autostart: bool = False


def define_by(name: str, to_be: ToBe, action: DefineDomain, workshop: Workshop) -> Domain:
    """Define the domain NAME as it is TO_BE; return it.

    One request to libvirt changes the root disk and what the metadata says of it.
    """
    with phase(workshop.emit, "define", name):
        workshop.require(name)
        domain = domains.define(workshop.connection, to_be.xml, to_be.domain)
        if workshop.roots is not None:
            workshop.roots.protect(domain.uuid, to_be.generation)
        if action.autostart != to_be.autostart:
            domains.set_autostart(workshop.connection, domain, action.autostart)
        return domain


@contextmanager
def definition_to_be(
    plan: MachinePlan,
    action: DefineDomain,
    root: Root | None,
    deployment: str | None,
    workshop: Workshop,
) -> Iterator[ToBe]:
    """Yield what to define the domain of PLAN by, see `define`; what it needs is there.

    If that takes another volume, it counts as whole at the end of the body, which is
    to define the domain.
    """
    connection, machine = workshop.connection, plan.machine
    far = not connection.local
    networks_ready = begun(partial(networks.ready_networks, connection), far=far)
    # What is secret in it, the password of a display for example, is not to get lost.
    found = domains.find_whole_definition(connection, machine.name)
    metadata = metadata_before = found[1] if found else Metadata(current=0, generations=())
    uuid = found[2].uuid if found else str(uuid4())
    files: tuple[str, ...] = ()
    there = {
        pool: begun(partial(volumes.names, connection, pool), far=far)
        for pool in {each.pool for each in metadata.generations}
    }
    if found:
        before, _, domain = found
        autostart = begun(partial(domains.autostart, connection, domain), far=far)
        hardware = inspect_domain(before).hardware
        lost = begun(partial(HostParts(connection).lost, hardware), far=far)
        # A preparation took its time, since the plan was made of what there was.
        closely = bool(plan.preparation)
        observed = require_untouched(
            connection, domain, metadata, action.generation, xml=before, closely=closely
        )
        files = all_disks(observed)
    with ExitStack() as made:
        in_place = plan.strategy in CHANGING_GUESTS
        if root is None:
            generation = metadata.find(action.generation)
            generation = msgspec.structs.replace(
                generation,
                declaration=machine,
                label=machine.image.label,
                kernel=machine.image.kernel,
                changing=generation.changing and not in_place,
                unseen=generation.unseen or bool(plan.switch),
            )
            root = made.enter_context(writable(machine.name, generation, metadata, workshop))
            generation = msgspec.structs.replace(generation, volume=root.volume, under=root.under)
        else:
            generation = _new_generation(machine, action.generation, root, workshop.now())
            # What this root is for has not happened yet.
            generation = msgspec.structs.replace(generation, changing=in_place, unseen=True)
        generation = msgspec.structs.replace(
            generation,
            deploy=workshop.deploy(),
            provenance=workshop.provenance or generation.provenance,
        )
        networks.ensure_networks(connection, machine, networks_ready)
        metadata = msgspec.structs.replace(
            metadata.having(generation),
            current=action.generation,
            # Until it is seen ready, whatever happens to us.
            fallback=None if plan.fallback == action.generation else plan.fallback,
            deployment=deployment or metadata.deployment,
            uuid=uuid,
        )
        metadata = metadata.without(_lost(metadata, there))
        disks = attached_disks(connection, machine, files)
        data = [each.path for each in disks if not each.block]
        record_attached(connection, metadata, machine, data, files)
        new = domain_xml(
            definition(machine, root, disks, connection, workshop.environment, metadata)
        )
        if found:
            xml = _in_place(new, before, metadata_before, machine, lost())
            yield ToBe(xml, generation, domain, before, autostart())
        else:
            yield ToBe(new, generation)


def _lost(
    metadata: Metadata, there: Mapping[str, Callable[[], Collection[str] | None]]
) -> frozenset[Address]:
    """Return the root volumes of METADATA that are in their pools no more, which had THERE.

    That of the current generation was looked up, and may have been made since.
    """
    current = metadata.generation
    return frozenset(
        (each.pool, each.volume)
        for each in metadata.generations
        # A pool that is stopped keeps what it has.
        if (each.pool, each.volume) != (current.pool, current.volume)
        and each.pool in there
        and (found := there[each.pool]()) is not None
        and each.volume not in found
    )


def require_untouched(
    connection: Connection,
    name: Which,
    metadata: Metadata,
    generation: int,
    *,
    xml: str | None = None,
    closely: bool = True,
) -> ObservedDomain:
    """Return domain NAME.  Raises RequestRefusedError if others did something to its disks.

    To return to GENERATION of METADATA is allowed if it is on the root of that.  XML and
    CLOSELY are as for `observe_domain`.
    """
    current = metadata.generation
    rooted = begun(
        partial(volumes.is_there, connection, current.pool, current.volume),
        far=closely and not connection.local,
    )
    roots = {each.number: each.volume for each in metadata.generations}
    domain = observe_domain(connection, name, xml, closely=closely, rooted=rooted)
    require_arrived(domain)
    require_no_memory(domain)
    require_own_disks(domain, roots.get(generation))
    require_volumes(domain)
    return domain


def _in_place(
    new: str, old: str, metadata: Metadata, machine: VirtualMachine, lost: Collection[HostPart]
) -> str:
    before, now = (_devices(each) for each in (metadata.generation.declaration, machine))
    removed = Removed(
        interfaces=before.interfaces - now.interfaces,
        disks=before.disks - now.disks,
        directories=before.directories - now.directories,
    )
    return updated_xml(old, new, removed, lost)


def _devices(machine: VirtualMachine) -> Removed:
    """Return all devices of MACHINE, as those would be named that are removed."""
    domain = machine.domain
    return Removed(
        interfaces=frozenset(interface.mac_address for interface in domain.networking),
        disks=frozenset(disk.device for disk in domain.disks if isinstance(disk, BlockDevice)),
        directories=frozenset(mount.tag for mount in domain.mount_points),
    )


def _new_generation(machine: VirtualMachine, number: int, root: Root, now: datetime) -> Generation:
    return Generation(
        number=number,
        date=now.isoformat(timespec="seconds"),
        label=machine.image.label,
        kernel=machine.image.kernel,
        pool=root.pool,
        volume=root.volume,
        image=root.image,
        declaration=machine,
        base=root.base,
        increment=root.increment,
        under=root.under,
        pinned_uuid=root.pinned_uuid,
        activated=root.activated,
    )


def definition(  # noqa: PLR0917 -- the machine, its storage, and where it runs
    machine: VirtualMachine,
    root: Root,
    disks: tuple[AttachedDisk, ...],
    connection: Connection,
    environment: Mapping[str, str],
    metadata: Metadata | None = None,
) -> DomainDefinition:
    """Return the definition of MACHINE's domain on the hypervisor of CONNECTION.

    Raises RequestRefusedError if the hypervisor does not offer the declared
    virtualization.
    """
    host = capabilities(connection)
    return DomainDefinition(
        machine=machine,
        uuid=metadata.uuid if metadata else None,
        root=root.path,
        backing=root.backing,
        domain_type=choose_domain_type(
            machine, host.domain_types, environment.get("PYGUIXVM_VIRT_TYPE")
        ),
        metadata=metadata,
        architecture=host.architecture,
        security_models=host.security_models,
        disks=disks,
    )

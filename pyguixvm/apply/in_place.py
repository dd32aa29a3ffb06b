# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the operating system of a guest while it runs."""

from __future__ import annotations

import dataclasses

import msgspec

from pyguixvm.apply.backing_chain import stacked
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import define
from pyguixvm.apply.root_volume import Root
from pyguixvm.apply.unused_volumes import delete_unused
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import Notice, phase
from pyguixvm.guix.activation import Activation, BootWanted, Host, LiveSystem
from pyguixvm.hypervisor import domains, snapshot
from pyguixvm.hypervisor.guest.addresses import addresses
from pyguixvm.hypervisor.guest.host_key import ssh_host_key
from pyguixvm.model.applied import Metadata
from pyguixvm.plan.actions import ActivateSystem, DefineDomain, PrepareSystem, StackRoot
from pyguixvm.plan.plan import MachinePlan

# Said of the first change on a root that was made for its system.
_NOT_FRESH = (
    "it keeps its state: what is on its root already may hide how the system comes up on a fresh "
    "one, which 'deploy --strategy increment' gives it"
)


def prepare(machine: str, action: PrepareSystem, workshop: Workshop) -> None:
    """Build what MACHINE is to run, and see that its guest lets us in.

    Raises BuildError, and RequestRefusedError if its address is not known.
    """
    with phase(workshop.emit, "build", machine) as result:
        host = _host(machine, action, workshop)
        _activation(workshop).prepare(host)
        result.detail = f"for root@{host.address}"


def stack_root(plan: MachinePlan, action: StackRoot, workshop: Workshop) -> None:
    """Give the running guest of PLAN a volume on top of its root.

    The domain is defined with it first: whatever ends us in between, the next start
    sees what the guest left, be the new volume empty.
    """
    connection, name = workshop.connection, plan.machine.name
    before = domains.read_metadata(connection, name)
    below = before.generation
    with stacked(name, below, action.volume, workshop) as root:
        as_it_is = msgspec.structs.replace(plan, machine=below.declaration)
        autostart = below.declaration.domain.autostart
        pinned = dataclasses.replace(root, pinned_uuid=below.root_uuid)
        define(
            as_it_is,
            DefineDomain(generation=action.generation, autostart=autostart),
            pinned,
            None,
            dataclasses.replace(workshop, provenance=below.provenance),
        )
    with phase(workshop.emit, "update", name) as result:
        workshop.require(name)
        if plan.strategy == "live" and below.pinned_uuid is None:
            workshop.emit(Notice(_NOT_FRESH, name))
        try:
            quiet = snapshot.write_to(connection, name, root.path)
        except HypervisorError:
            # While nobody knows, it is left as by one who was killed.
            if snapshot.written_to(connection, name) != root.path:
                _take_away(as_it_is, before, root, workshop)
            raise
        result.detail = f"generation {below.number} stays as it is below"
    if not quiet:
        workshop.warn(
            name,
            f"generation {below.number} is as after a power failure: the guest's agent "
            "did not quiet its file systems",
        )


def keep_layer(plan: MachinePlan, workshop: Workshop) -> None:
    """Remember that the running guest of PLAN is changed once more, on the volume that it has."""
    connection, name = workshop.connection, plan.machine.name
    metadata = domains.read_metadata(connection, name)
    changing = msgspec.structs.replace(metadata.generation, changing=True, deploy=workshop.deploy())
    metadata = msgspec.structs.replace(metadata.having(changing), fallback=plan.fallback)
    with phase(workshop.emit, "update", name) as result:
        workshop.require(name)
        domains.write_metadata(connection, name, metadata)
        result.detail = f"generation {plan.fallback} stays as it is below"


def _take_away(plan: MachinePlan, before: Metadata, root: Root, workshop: Workshop) -> None:
    """Define the domain of PLAN as it was BEFORE, without ROOT, which its guest did not get."""
    connection, name = workshop.connection, plan.machine.name
    workshop.require(name)
    domains.write_metadata(connection, name, before)
    number, autostart = before.current, plan.machine.domain.autostart
    as_it_was = MachinePlan(machine=plan.machine, effect="live", fallback=before.fallback)
    define(as_it_was, DefineDomain(number, autostart), None, None, workshop)
    workshop.require(name)
    for kept in delete_unused(connection, [(root.pool, root.volume)]):
        workshop.warn(name, str(kept))


def leave(machine: str, workshop: Workshop) -> None:
    """Remember that the guest of MACHINE is what it was: its change was not begun."""
    connection = workshop.connection
    metadata = domains.read_metadata(connection, machine)
    as_it_was = msgspec.structs.replace(metadata.generation, changing=False)
    metadata = msgspec.structs.replace(metadata.having(as_it_was), fallback=None)
    workshop.require(machine)
    domains.write_metadata(connection, machine, metadata)


def activate(machine: str, action: ActivateSystem, workshop: Workshop) -> BootWanted | None:
    """Have the guest of MACHINE run its new system; return what it is to boot by, if it is to.

    Raises HalfDoneError if the guest may be anything in between, another error if
    it was not begun.
    """
    with phase(workshop.emit, "activate", machine) as result:
        host = _host(machine, action, workshop)
        workshop.require(machine)
        wanted = _activation(workshop).activate(host)
        result.detail = "its kernel is used from the next start on" if wanted else ""
    return wanted


def remember_given(machine: str, given: LiveSystem | None, workshop: Workshop) -> None:
    """Remember what the guest of MACHINE was GIVEN; None where Guix does not say what it has."""
    connection = workshop.connection
    metadata = domains.read_metadata(connection, machine)
    system, program = (given.system, given.program) if given else (None, None)
    current = msgspec.structs.replace(metadata.generation, activated=system, switched_by=program)
    if current != metadata.generation:
        workshop.require(machine)
        domains.write_metadata(connection, machine, metadata.having(current))


def _activation(workshop: Workshop) -> Activation:
    if workshop.activation is None:
        raise ValueError("there is no configuration to change a guest to")
    return workshop.activation


def _host(machine: str, action: PrepareSystem | ActivateSystem, workshop: Workshop) -> Host:
    connection = workshop.connection
    found = addresses(connection, machine, seen_by_host=True)
    if not found:
        raise RequestRefusedError(
            f"'{machine}' cannot be changed in place: no address of its guest is known",
            hint="Let it run qemu-guest-agent, or connect it to a network of libvirt's.",
        )
    host_key = ssh_host_key(connection, machine)
    if host_key is None and not connection.local:
        raise RequestRefusedError(
            f"'{machine}' cannot be changed in place: its ssh host key is not known, and at "
            f"{found[0]} there may be another host, seen from here",
            hint="Let it run qemu-guest-agent, which tells the key.",
        )
    return Host(
        machine=machine,
        address=found[0],
        host_key=host_key,
        system=action.system,
        root_uuid=action.root_uuid,
        uuid=domains.our_domain(connection, machine).UUIDString(),
    )

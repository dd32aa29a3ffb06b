# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the operating system of a guest while it runs."""

from __future__ import annotations

import dataclasses

import msgspec

from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.guix.activation import Activation, Host
from pyguixvm.hypervisor import domains, guest, snapshot
from pyguixvm.reconcile.define import define
from pyguixvm.reconcile.plan import (
    ActivateSystem,
    DefineDomain,
    MachinePlan,
    PrepareSystem,
    StackRoot,
    StopDomain,
)
from pyguixvm.reconcile.stack import stacked
from pyguixvm.reconcile.workshop import Workshop


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
    below = domains.read_metadata(connection, name).generation
    with stacked(name, below, action.volume, workshop) as root:
        as_it_is = msgspec.structs.replace(plan, machine=below.declaration)
        autostart = below.declaration.domain.autostart
        pinned = dataclasses.replace(root, pinned_uuid=below.root_uuid)
        define(
            as_it_is,
            DefineDomain(generation=action.generation, autostart=autostart),
            pinned,
            None,
            workshop,
        )
    with phase(workshop.emit, "update", name) as result:
        quiet = snapshot.write_to(connection, name, root.path)
        result.detail = f"generation {below.number} stays as it is below"
    if not quiet:
        workshop.warn(
            name,
            f"generation {below.number} is as after a power failure: the guest's agent "
            "did not quiet its file systems",
        )


def activate(machine: str, action: ActivateSystem, workshop: Workshop) -> StopDomain | None:
    """Have the guest of MACHINE run its new system; return how to restart it, if that is wanted.

    Raises BuildError: then the guest may be anything in between.
    """
    with phase(workshop.emit, "activate", machine) as result:
        restart = _activation(workshop).activate(_host(machine, action, workshop))
        result.detail = "its kernel is used from the next start on" if restart else ""
    if restart and action.restart is None:
        workshop.warn(machine, "what it boots by has changed: pending until its restart")
    return action.restart if restart else None


def _activation(workshop: Workshop) -> Activation:
    if workshop.activation is None:
        raise ValueError("there is no configuration to change a guest to")
    return workshop.activation


def _host(machine: str, action: PrepareSystem | ActivateSystem, workshop: Workshop) -> Host:
    connection = workshop.connection
    addresses = guest.addresses(connection, machine)
    if not addresses:
        raise RequestRefusedError(
            f"'{machine}' cannot be changed in place: no address of its guest is known",
            hint="Let it run qemu-guest-agent, or connect it to a network of libvirt's.",
        )
    return Host(
        machine=machine,
        address=addresses[0],
        host_key=guest.ssh_host_key(connection, machine),
        system=action.system,
        root_uuid=action.root_uuid,
    )

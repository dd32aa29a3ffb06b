# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out what a plan says, machine by machine."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Literal, assert_never

from pyguixvm.errors import NotReadyError, PyguixvmError, RequestRefusedError
from pyguixvm.events import Emit, Notice, phase
from pyguixvm.hypervisor import domains, guest, networks
from pyguixvm.hypervisor.connection import Connection, capabilities
from pyguixvm.model.deployment import LocalImage, VirtualMachine
from pyguixvm.model.generation import Generation, Metadata
from pyguixvm.reconcile.plan import (
    CreateRoot,
    DefineDomain,
    MachinePlan,
    Plan,
    RealizeImage,
    StartDomain,
)
from pyguixvm.reconcile.readiness import Evidence, wait_ready
from pyguixvm.reconcile.root import Root, create_root, discard_root
from pyguixvm.xml.capabilities import choose_domain_type
from pyguixvm.xml.domain import DomainDefinition, domain_xml


@dataclass(frozen=True)
class Workshop:
    """What carrying out a plan needs; the effects that are not libvirt's are arguments."""

    connection: Connection
    emit: Emit
    environment: Mapping[str, str]
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep


@dataclass(frozen=True)
class Outcome:
    """How it went with one machine."""

    machine: str
    outcome: Literal["unchanged", "deployed", "started", "failed"]
    detail: str = ""
    addresses: tuple[str, ...] = ()
    error: PyguixvmError | None = None

    @property
    def status(self) -> int:
        """The exit status that this machine alone would give."""
        return self.error.status if self.error else 0


@dataclass(frozen=True)
class _Booting:
    """A guest that runs but has not been seen ready; DEADLINE is on the workshop's clock."""

    plan: MachinePlan
    evidence: Evidence
    deadline: float


def apply(plan: Plan, workshop: Workshop) -> tuple[Outcome, ...]:
    """Carry out PLAN, whose images are built; return what became of each machine.

    All guests are started before the first is waited for, so that they boot
    side by side.  What fails for one machine does not stop the others.
    """
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as consoles:
        booting: list[_Booting] = []
        for machine_plan in plan.machines:
            name = machine_plan.machine.name
            try:
                guest_booting = _carry_out(machine_plan, workshop, consoles)
            except PyguixvmError as error:
                outcomes[name] = Outcome(name, "failed", error=error)
                continue
            if guest_booting is None:
                outcomes[name] = Outcome(name, "unchanged")
            else:
                booting.append(guest_booting)
        for guest_booting in booting:
            outcomes[guest_booting.plan.machine.name] = _await(guest_booting, workshop)
    return tuple(outcomes[machine_plan.machine.name] for machine_plan in plan.machines)


def _carry_out(plan: MachinePlan, workshop: Workshop, consoles: ExitStack) -> _Booting | None:
    """Do the actions of PLAN; return the guest that boots, or None if there was nothing to do.

    The console that watches the guest is closed with CONSOLES.
    """
    if plan.refusal is not None:
        raise RequestRefusedError(plan.refusal, hint=plan.hint, location=str(plan.machine.location))
    booting = None
    with ExitStack() as undo:
        root: Root | None = None
        for action in plan.actions:
            match action:
                case RealizeImage():
                    pass  # all images were built in one go, before anything was touched
                case CreateRoot():
                    root = create_root(workshop.connection, plan.machine, action, workshop.emit)
                    undo.callback(discard_root, workshop.connection, root)
                case DefineDomain():
                    if root is None:
                        raise ValueError("a domain is defined after its root volume is made")
                    _define(plan.machine, action, root, workshop)
                    # From here on the metadata vouches for the volume.
                    undo.pop_all()
                case StartDomain():
                    booting = _start(plan, action, workshop, consoles)
                case _:
                    assert_never(action)
    return booting


def _define(machine: VirtualMachine, action: DefineDomain, root: Root, workshop: Workshop) -> None:
    connection = workshop.connection
    with phase(workshop.emit, "define", machine.name):
        for interface in machine.domain.networking:
            networks.ensure_network(connection, interface.network)
        metadata = Metadata(
            current=action.generation,
            generations=(
                Generation(
                    number=action.generation,
                    date=workshop.now().isoformat(timespec="seconds"),
                    label=_label(machine),
                    pool=root.pool,
                    volume=root.volume,
                    image=_image(machine),
                    declaration=machine,
                    base=root.base,
                ),
            ),
        )
        domains.define(
            connection,
            domain_xml(definition(machine, root, connection, workshop.environment, metadata)),
        )
        domains.set_autostart(connection, machine.name, action.autostart)


def definition(
    machine: VirtualMachine,
    root: Root,
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
        root=root.path,
        backing=(root.backing,),
        domain_type=choose_domain_type(
            machine, host.domain_types, environment.get("PYGUIXVM_VIRT_TYPE")
        ),
        metadata=metadata,
        architecture=host.architecture,
        security_models=host.security_models,
    )


def _label(machine: VirtualMachine) -> str:
    return machine.image.path if isinstance(machine.image, LocalImage) else machine.image.label


def _image(machine: VirtualMachine) -> str:
    if isinstance(machine.image, LocalImage):
        return machine.image.path
    return machine.image.output or ""


def _start(
    plan: MachinePlan, action: StartDomain, workshop: Workshop, consoles: ExitStack
) -> _Booting:
    machine = plan.machine
    with phase(workshop.emit, "start", machine.name):
        for interface in machine.domain.networking:
            networks.ensure_network(workshop.connection, interface.network)
        evidence = consoles.enter_context(guest.boot(workshop.connection, machine))
    return _Booting(plan, evidence, workshop.clock() + action.timeout)


def _await(booting: _Booting, workshop: Workshop) -> Outcome:
    machine = booting.plan.machine
    try:
        with phase(workshop.emit, "ready", machine.name) as result:
            readiness = wait_ready(
                machine,
                booting.evidence,
                deadline=booting.deadline,
                clock=workshop.clock,
                sleep=workshop.sleep,
            )
            if readiness.outcome == "not-ready":
                raise NotReadyError(
                    f"'{machine.name}' was deployed but is not ready: {readiness.detail}",
                    console=readiness.console,
                    hint=f"It was left running. Power it off with: pyguixvm destroy {machine.name}",
                )
            result.detail = readiness.detail
    except PyguixvmError as error:
        return Outcome(machine.name, "failed", error=error)
    if readiness.outcome == "unverified":
        workshop.emit(Notice(f"not verified: {readiness.detail}", machine.name, warning=True))
    return Outcome(
        machine.name,
        "deployed" if booting.plan.effect == "create" else "started",
        detail=readiness.detail,
        addresses=readiness.addresses,
    )

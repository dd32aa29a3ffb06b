# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out what a plan says, machine by machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack, suppress
from dataclasses import dataclass
from functools import partial
from typing import Literal

import msgspec

from pyguixvm.errors import NotReadyError, PyguixvmError, RequestRefusedError, RolledBackError
from pyguixvm.events import Notice, phase
from pyguixvm.hypervisor import domains, guest, networks, power, volumes
from pyguixvm.model.deployment import VirtualMachine
from pyguixvm.reconcile.change import change
from pyguixvm.reconcile.define import define
from pyguixvm.reconcile.difference import Effect
from pyguixvm.reconcile.disk import create_disk, grow_disk
from pyguixvm.reconcile.empty_root import created_empty_root
from pyguixvm.reconcile.plan import (
    AwaitReady,
    CreateDisk,
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    GrowDisk,
    MachinePlan,
    Plan,
    RealizeContent,
    RealizeImage,
    RealizeSystem,
    StartDomain,
    StopDomain,
)
from pyguixvm.reconcile.readiness import Evidence, Readiness, wait_ready
from pyguixvm.reconcile.root import Root, created_root
from pyguixvm.reconcile.trial import try_root
from pyguixvm.reconcile.workshop import Workshop


@dataclass(frozen=True)
class Outcome:
    """How it went with one machine."""

    machine: str
    outcome: Literal["unchanged", "deployed", "updated", "restarted", "started", "failed"]
    detail: str = ""
    addresses: tuple[str, ...] = ()
    error: PyguixvmError | None = None

    @property
    def status(self) -> int:
        """The exit status that this machine alone would give."""
        return self.error.status if self.error else 0


@dataclass(frozen=True)
class _Booting:
    """A guest that runs but has not been seen ready.

    DEADLINE and STOPPED, when the guest before it was stopped, are on the
    workshop's clock.
    """

    plan: MachinePlan
    evidence: Evidence
    deadline: float
    stopped: float | None


def apply(plan: Plan, workshop: Workshop, *, trial: bool = False) -> tuple[Outcome, ...]:
    """Carry out PLAN, whose images are built; return what became of each machine.

    With TRIAL, a new root has to get ready in a throwaway copy before its machine
    is touched.
    All guests are started before the first is waited for, so that they boot
    side by side.  What fails for one machine does not stop the others.
    """
    outcomes: dict[str, Outcome] = {}
    with ExitStack() as watched:
        booting: list[_Booting] = []
        for machine_plan in plan.machines:
            name = machine_plan.machine.name
            try:
                result = _carry_out(machine_plan, plan.config, workshop, watched, trial)
            except PyguixvmError as error:
                outcomes[name] = Outcome(name, "failed", error=error)
                continue
            if isinstance(result, _Booting):
                booting.append(result)
            else:
                outcomes[name] = result
        for guest_booting in booting:
            name = guest_booting.plan.machine.name
            outcomes[name] = _await(guest_booting, workshop)
    return tuple(outcomes[machine_plan.machine.name] for machine_plan in plan.machines)


def _carry_out(  # noqa: PLR0912 -- one for each kind of action
    plan: MachinePlan, config: str | None, workshop: Workshop, watched: ExitStack, trial: bool
) -> _Booting | Outcome:
    """Do the actions of PLAN; return the guest that boots, or how it went.

    What watches the guest is closed with WATCHED.
    """
    name = plan.machine.name
    if plan.refusal is not None:
        raise RequestRefusedError(plan.refusal, hint=plan.hint, location=str(plan.machine.location))
    if (
        trial
        and plan.actions
        and not any(isinstance(action, CreateRoot | CreateEmptyRoot) for action in plan.actions)
    ):
        workshop.emit(Notice("there is nothing to try: it keeps its root", name))
    booting: _Booting | None = None
    root: Root | None = None
    stopped: float | None = None
    with ExitStack() as undo:
        for action in plan.actions:
            match action:
                case RealizeImage() | RealizeContent() | RealizeSystem():
                    pass  # all were built in one go, before anything was touched
                case CreateRoot() | CreateEmptyRoot():
                    root = undo.enter_context(_created(plan.machine, action, workshop))
                    if trial:
                        try_root(plan.machine, root, action.size, workshop)
                case CreateDisk():
                    create_disk(plan.machine, action, workshop)
                case GrowDisk():
                    grow_disk(plan.machine, action, workshop)
                case StopDomain():
                    stopped = workshop.clock()
                    _stop(name, action, workshop)
                    undo.push(partial(_start_again, name, workshop))
                case DefineDomain():
                    define(plan, action, root, config, workshop)
                    # The metadata vouches for the volume now, which is whole from here on.
                    undo.close()
                case StartDomain():
                    try:
                        evidence = _start(plan.machine, workshop, watched)
                    except PyguixvmError as error:
                        return _failed_to_start(plan, error, workshop)
                    deadline = workshop.clock() + action.timeout
                    booting = _Booting(plan, evidence, deadline, stopped)
                case AwaitReady():
                    evidence = watched.enter_context(guest.watch(workshop.connection, plan.machine))
                    deadline = workshop.clock() + action.timeout
                    booting = _Booting(plan, evidence, deadline, None)
                case _:
                    change(plan.machine.name, action, workshop)
    if booting is not None:
        return booting
    if plan.pending:
        return Outcome(name, "updated", detail="pending until its restart: " + _pending(plan))
    return Outcome(name, "updated" if plan.actions else "unchanged")


def _created(
    machine: VirtualMachine, action: CreateRoot | CreateEmptyRoot, workshop: Workshop
) -> AbstractContextManager[Root]:
    if isinstance(action, CreateEmptyRoot):
        return created_empty_root(machine.name, action, workshop)
    return created_root(machine, action, workshop)


def _pending(plan: MachinePlan) -> str:
    return ", ".join(d.path for d in plan.differences if d.effect == "restart")


def _stop(name: str, action: StopDomain, workshop: Workshop) -> None:
    with phase(workshop.emit, "stop", name) as result:
        try:
            result.detail = power.shutdown(
                workshop.connection,
                name,
                timeout=action.timeout,
                clock=workshop.clock,
                sleep=workshop.sleep,
            )
        except RequestRefusedError as error:
            if not action.force:
                raise RequestRefusedError(
                    error.message,
                    hint=f"{error.hint}. 'pyguixvm deploy --force' powers it off instead.",
                ) from error
            domains.destroy(workshop.connection, name)
            result.detail = "powered off"


def _start_again(name: str, workshop: Workshop, kind: object, *_: object) -> None:
    """Let the old definition run again if an exception of KIND came before the new one."""
    if kind is not None:
        with suppress(PyguixvmError):
            domains.start(workshop.connection, name)


def _start(machine: VirtualMachine, workshop: Workshop, watched: ExitStack) -> Evidence:
    with phase(workshop.emit, "start", machine.name):
        for interface in machine.domain.networking:
            networks.ensure_network(workshop.connection, interface.network)
        return watched.enter_context(guest.boot(workshop.connection, machine))


def _await(booting: _Booting, workshop: Workshop) -> Outcome:
    plan, machine = booting.plan, booting.plan.machine
    try:
        readiness = _wait(machine, booting.evidence, booting.deadline, workshop)
        if readiness.outcome == "not-ready":
            message = f"'{machine.name}' was deployed but is not ready: {readiness.detail}"
            if plan.fallback is not None:
                return _rolled_back(plan, message, readiness.console, workshop)
            raise NotReadyError(
                message,
                console=readiness.console,
                hint=f"It was left running. Power it off with: pyguixvm destroy {machine.name}",
            )
        downtime = None if booting.stopped is None else workshop.clock() - booting.stopped
        _remember_ready(machine.name, downtime, workshop)
    except PyguixvmError as error:
        return Outcome(machine.name, "failed", error=error)
    if readiness.outcome == "unverified":
        workshop.warn(machine.name, f"not verified: {readiness.detail}")
    away = "" if downtime is None else f", away for {downtime:.1f} s"
    return Outcome(
        machine.name,
        _WORDS.get(plan.effect, "started"),
        detail=readiness.detail + away,
        addresses=readiness.addresses,
    )


_WORDS: Mapping[Effect, Literal["deployed", "updated", "restarted", "started"]] = {
    "create": "deployed",
    "replace": "updated",
    "restart": "restarted",
}


def _wait(
    machine: VirtualMachine, evidence: Evidence, deadline: float, workshop: Workshop
) -> Readiness:
    with phase(workshop.emit, "ready", machine.name) as result:
        readiness = wait_ready(
            machine, evidence, deadline=deadline, clock=workshop.clock, sleep=workshop.sleep
        )
        result.detail = readiness.detail
    return readiness


def _remember_ready(name: str, downtime: float | None, workshop: Workshop) -> None:
    """Note that the current generation was seen ready, and how long the machine was away."""
    metadata = domains.read_metadata(workshop.connection, name)
    current = metadata.generation
    # Left by a run that ended between the definition and this.
    volumes.delete_marker(workshop.connection, current.pool, current.volume)
    if metadata.fallback is None and downtime is None and not current.failed:
        return
    seen = msgspec.structs.replace(
        current,
        failed=False,
        downtime=current.downtime if downtime is None else round(downtime, 1),
    )
    metadata = msgspec.structs.replace(metadata.having(seen), fallback=None)
    domains.write_metadata(workshop.connection, name, metadata)


def _failed_to_start(plan: MachinePlan, error: PyguixvmError, workshop: Workshop) -> Outcome:
    """Return how it went with a machine whose new definition libvirt does not start."""
    if plan.fallback is None:
        raise error
    return _rolled_back(plan, error.message, (), workshop)


def _rolled_back(
    plan: MachinePlan, message: str, console: tuple[str, ...], workshop: Workshop
) -> Outcome:
    """Let the generation to fall back to run again: all of it happens on the hypervisor."""
    name, number = plan.machine.name, plan.fallback
    if number is None:
        raise ValueError("there is nothing to roll back to")
    workshop.warn(name, f"{message}; back to generation {number}")
    error: PyguixvmError
    try:
        _return_to(name, number, workshop)
        error = RolledBackError(
            f"{message}; rolled back to generation {number}, which runs again",
            console=console,
            hint="Mend the declaration and deploy again.",
        )
    except PyguixvmError as failure:
        error = NotReadyError(
            f"{message}; the way back to generation {number} failed: {failure.message}",
            console=console,
            hint=f"Look at its console with: pyguixvm console {name}. "
            f"Try again with: pyguixvm rollback {name} {number}",
        )
    return Outcome(name, "failed", error=error)


def _return_to(name: str, number: int, workshop: Workshop) -> None:
    """Power NAME off and start generation NUMBER; raises PyguixvmError if it is not ready."""
    connection = workshop.connection
    domains.destroy(connection, name)
    metadata = domains.read_metadata(connection, name)
    if metadata.current != number:
        failed = msgspec.structs.replace(metadata.generation, failed=True)
        domains.write_metadata(connection, name, metadata.having(failed))
    machine = metadata.find(number).declaration
    way_back = MachinePlan(machine=machine, effect="restart")
    define(
        way_back,
        DefineDomain(generation=number, autostart=machine.domain.autostart),
        None,
        None,
        workshop,
    )
    with ExitStack() as watched:
        evidence = _start(machine, workshop, watched)
        readiness = _wait(machine, evidence, workshop.clock() + machine.ready_timeout, workshop)
        if readiness.outcome == "not-ready":
            raise NotReadyError(readiness.detail, console=readiness.console)

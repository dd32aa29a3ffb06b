# SPDX-License-Identifier: GPL-3.0-or-later
"""Carry out what a plan says, machine by machine."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager, ExitStack
from dataclasses import dataclass
from typing import Literal, assert_never

import msgspec

from pyguixvm.apply import power
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.data_disk import create_disk, grow_disk
from pyguixvm.apply.definition import define
from pyguixvm.apply.empty_root import created_empty_root
from pyguixvm.apply.hotplug import change
from pyguixvm.apply.in_place import activate, leave, prepare, stack_root
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.root_volume import Root, created_root
from pyguixvm.apply.switch import Switched, restarted, switch
from pyguixvm.apply.take_back import taken_back
from pyguixvm.apply.trial import try_root
from pyguixvm.errors import (
    EvaluationError,
    HalfDoneError,
    NotReadyError,
    PyguixvmError,
    RequestRefusedError,
    contained,
)
from pyguixvm.events import Notice
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.hypervisor.guest.evidence import watch
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Effect
from pyguixvm.plan.actions import (
    ActivateSystem,
    AwaitReady,
    CreateDisk,
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    GrowDisk,
    LiveAction,
    Preparation,
    PrepareSystem,
    RealizeContent,
    RealizeImage,
    RealizeSystem,
    StackRoot,
    StopDomain,
)
from pyguixvm.plan.plan import MachinePlan, Plan
from pyguixvm.plan.readiness import Evidence, unheard


@dataclass(frozen=True)
class _Booting:
    """A guest that runs but has not been seen ready, as MACHINE declares it.

    DEADLINE and STOPPED, when the guest before it was stopped, are on the
    workshop's clock.
    """

    plan: MachinePlan
    machine: VirtualMachine
    evidence: Evidence
    deadline: float
    stopped: float | None


def apply(plan: Plan, workshop: Workshop, *, trial: bool = False) -> tuple[Outcome, ...]:
    """Carry out PLAN, whose images are built; return what became of each machine.

    With TRIAL, a new root has to get ready in a throwaway copy before its machine
    is touched.
    All guests are started before the first is waited for, so that they boot
    side by side.  Whatever fails for one machine, a defect too, does not stop the others.
    """
    outcomes: dict[str, Outcome] = {}
    try:
        with ExitStack() as watched:
            booting: list[_Booting] = []
            for machine_plan in plan.machines:
                workshop.interruption.check()
                name = machine_plan.machine.name
                try:
                    result = _carry_out(machine_plan, plan.deployment, workshop, watched, trial)
                except Exception as error:  # noqa: BLE001 -- one's trouble is its own
                    outcomes[name] = Outcome(name, "failed", error=contained(error))
                    continue
                if isinstance(result, _Booting):
                    booting.append(result)
                else:
                    outcomes[name] = result
            for guest_booting in booting:
                workshop.interruption.check()
                name = guest_booting.plan.machine.name
                outcomes[name] = _await(guest_booting, workshop)
    except KeyboardInterrupt:
        for outcome in outcomes.values():
            if outcome.error is not None:
                workshop.warn(outcome.machine, outcome.error.message)
        raise
    return tuple(outcomes[machine_plan.machine.name] for machine_plan in plan.machines)


def _carry_out(
    plan: MachinePlan, deployment: str | None, workshop: Workshop, watched: ExitStack, trial: bool
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
    root: Root | None = None
    with ExitStack() as made:
        for step in plan.preparation:
            root = _prepared(plan.machine, step, workshop, made, trial) or root
        if plan.switch:
            # The metadata vouches for the volume once it is defined; it is whole from then on.
            begun = switch(plan, root, deployment, workshop, watched, made.close)
            return _booting(plan, begun, plan.machine.ready_timeout, workshop)
    try:
        with workshop.interruption.put_off():
            restart = _changed(plan, deployment, workshop)
    except HalfDoneError as error:
        return _failed(plan, error, workshop)
    for action in plan.changes:
        if isinstance(action, AwaitReady):
            try:
                return _followed(plan, restart, action.timeout, workshop, watched)
            except PyguixvmError as error:
                return _failed(plan, error, workshop)
    if plan.pending:
        return Outcome(name, "updated", detail="pending until its restart: " + _pending(plan))
    return Outcome(name, "updated" if plan.actions else "unchanged")


def _prepared(
    machine: VirtualMachine, step: Preparation, workshop: Workshop, made: ExitStack, trial: bool
) -> Root | None:
    """Do STEP, which leaves MACHINE as it is; return its new root, if that is what it makes.

    The root goes again if MADE is closed by an exception before it is defined.
    """
    match step:
        case RealizeImage() | RealizeContent() | RealizeSystem():
            pass  # all were built in one go, before anything was touched
        case CreateRoot() | CreateEmptyRoot():
            root = made.enter_context(_created(machine, step, workshop))
            if trial:
                try_root(machine, root, step.size, workshop)
            return root
        case CreateDisk():
            create_disk(machine, step, workshop)
        case GrowDisk():
            grow_disk(machine, step, workshop)
        case PrepareSystem():
            prepare(machine.name, step, workshop)
        case _:
            assert_never(step)
    return None


def _changed(plan: MachinePlan, deployment: str | None, workshop: Workshop) -> StopDomain | None:
    """Change the machine of PLAN while its guest runs; return how to restart it if need be.

    Raises HalfDoneError if the guest may be anything in between.
    """
    restart: StopDomain | None = None
    name = plan.machine.name
    for action in plan.changes:
        match action:
            case DefineDomain():
                define(plan, action, None, deployment, workshop)
            case StackRoot():
                stack_root(plan, action, workshop)
            case ActivateSystem():
                restart = _activated(name, action, workshop)
            case AwaitReady():
                pass  # all that may be interrupted comes after this
            case _ if isinstance(action, LiveAction):
                change(name, action, workshop)
            case _:
                raise ValueError(f"{action} is no change to a guest that runs")
    return restart


def _activated(name: str, action: ActivateSystem, workshop: Workshop) -> StopDomain | None:
    try:
        return activate(name, action, workshop)
    except HalfDoneError:
        raise
    except EvaluationError as error:
        raise HalfDoneError(error.message, hint=error.hint) from error
    except PyguixvmError:
        leave(name, workshop)
        raise


def _created(
    machine: VirtualMachine, action: CreateRoot | CreateEmptyRoot, workshop: Workshop
) -> AbstractContextManager[Root]:
    if isinstance(action, CreateEmptyRoot):
        return created_empty_root(machine.name, action, workshop)
    return created_root(machine, action, workshop)


def _pending(plan: MachinePlan) -> str:
    return ", ".join(d.path for d in plan.differences if d.effect == "restart")


def _followed(
    plan: MachinePlan,
    restart: StopDomain | None,
    timeout: int,
    workshop: Workshop,
    watched: ExitStack,
) -> _Booting:
    """Watch the guest of PLAN, which runs already, or anew if it is to RESTART and does."""
    name = plan.machine.name
    if restart is not None:
        try:
            return _booting(plan, restarted(plan, restart, workshop, watched), timeout, workshop)
        except RequestRefusedError as error:
            workshop.warn(name, f"what it boots by is pending until its restart: {error.message}")
    return _listen(plan, timeout, workshop, watched)


def _booting(plan: MachinePlan, begun: Switched, timeout: int, workshop: Workshop) -> _Booting:
    deadline = workshop.clock() + timeout
    return _Booting(plan, plan.machine, begun.evidence, deadline, begun.stopped)


def _listen(plan: MachinePlan, timeout: int, workshop: Workshop, watched: ExitStack) -> _Booting:
    """Watch a guest that runs already: what it said on its console when it booted is gone."""
    machine = unheard(plan.machine)
    evidence = watched.enter_context(watch(workshop.connection, machine))
    return _Booting(plan, machine, evidence, workshop.clock() + timeout, None)


def _await(booting: _Booting, workshop: Workshop) -> Outcome:
    """Return how it went with the guest that boots; whatever is wrong with it is its own."""
    try:
        return _awaited(booting, workshop)
    except Exception as error:  # noqa: BLE001 -- one's trouble is its own
        return Outcome(booting.machine.name, "failed", error=contained(error))


def _awaited(booting: _Booting, workshop: Workshop) -> Outcome:
    plan, machine = booting.plan, booting.machine
    readiness = power.wait(machine, booting.evidence, booting.deadline, workshop)
    if readiness.outcome == "not-ready":
        message = f"'{machine.name}' was deployed but is not ready: {readiness.detail}"
        if plan.fallback is not None:
            return taken_back(plan, message, readiness.console, workshop)
        raise NotReadyError(
            message,
            console=readiness.console,
            hint=f"It was left running. Power it off with: pyguixvm destroy {machine.name}",
        )
    downtime = None if booting.stopped is None else workshop.clock() - booting.stopped
    _remember_ready(machine.name, downtime, workshop)
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
    "live": "updated",
    "replace": "updated",
    "restart": "restarted",
}


def _remember_ready(name: str, downtime: float | None, workshop: Workshop) -> None:
    """Note that the current generation was seen ready, and how long the machine was away."""
    workshop.require(name)
    _, metadata, domain = domains.definition(workshop.connection, name)
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
    domains.write_metadata(workshop.connection, domain, metadata)


def _failed(plan: MachinePlan, error: PyguixvmError, workshop: Workshop) -> Outcome:
    """Return how it went with a machine whose new generation does not even start, for ERROR."""
    if plan.fallback is None:
        raise error
    return taken_back(plan, error.message, (), workshop)

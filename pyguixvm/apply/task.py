# SPDX-License-Identifier: GPL-3.0-or-later
"""What a plan says of one machine is carried out: prepare, switch, verify, keep or take back."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from typing import assert_never

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.data_disk import create_disk, grow_disk
from pyguixvm.apply.definition import define
from pyguixvm.apply.empty_root import created_empty_root
from pyguixvm.apply.end_of_deploy import remember_end
from pyguixvm.apply.hotplug import change
from pyguixvm.apply.in_place import (
    activate,
    keep_layer,
    leave,
    prepare,
    remember_given,
    stack_root,
)
from pyguixvm.apply.layers import merge_layers
from pyguixvm.apply.live import activate_live, prepare_live
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.power import Restart
from pyguixvm.apply.remote_image import fetched
from pyguixvm.apply.root_volume import Root, created_root
from pyguixvm.apply.switch import Switched, restarted, switch
from pyguixvm.apply.trial import try_root
from pyguixvm.apply.verify import Booting, awaited, not_even_started
from pyguixvm.errors import (
    EvaluationError,
    HalfDoneError,
    LostLockError,
    NotReadyError,
    PyguixvmError,
    RequestRefusedError,
    RolledBackError,
)
from pyguixvm.events import Notice
from pyguixvm.guix.activation import LiveSystem
from pyguixvm.hypervisor.guest.evidence import watch
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.actions import (
    ActivateSystem,
    AwaitReady,
    CreateDisk,
    CreateEmptyRoot,
    CreateRoot,
    DefineDomain,
    FetchImage,
    GrowDisk,
    KeepLayer,
    LiveAction,
    MergeLayers,
    Preparation,
    PrepareSystem,
    RealizeContent,
    RealizeImage,
    RealizeSystem,
    StackRoot,
)
from pyguixvm.plan.plan import MachinePlan, Trial
from pyguixvm.plan.readiness import unheard


def carry_out(
    plan: MachinePlan, deployment: str | None, workshop: Workshop, trial: Trial | None = None
) -> Outcome:
    """Carry out PLAN for a machine of DEPLOYMENT; return what became of it.

    With TRIAL, a new root has to get ready in a throwaway copy first.  Raises PyguixvmError
    if the machine is as it was, or if there is nothing to take back.
    """
    name = plan.machine.name
    try:
        with ExitStack() as watched:
            begun = _begun(plan, deployment, workshop, watched, trial)
            outcome = awaited(begun, workshop) if isinstance(begun, Booting) else begun
    except LostLockError:
        # It is another one's to note anything by now.
        raise
    except Exception as error:
        if plan.actions:
            # All was done to a guest that is not ready yet: what is left is to see it so.
            remember_end(name, workshop, failed=not isinstance(error, NotReadyError))
        raise
    # What was seen ready was noted with that.
    if outcome.error is not None or (plan.actions and not isinstance(begun, Booting)):
        back = isinstance(outcome.error, RolledBackError)
        remember_end(name, workshop, failed=outcome.error is not None and not back)
    return outcome


def _begun(
    plan: MachinePlan,
    deployment: str | None,
    workshop: Workshop,
    watched: ExitStack,
    trial: Trial | None,
) -> Booting | Outcome:
    """Do the actions of PLAN; return the guest that boots, or how it went.

    What watches the guest is closed with WATCHED.
    """
    name = plan.machine.name
    if plan.refusal is not None:
        raise RequestRefusedError(plan.refusal, hint=plan.hint, location=str(plan.machine.location))
    if plan.hint is not None:
        workshop.warn(name, plan.hint)
    if (
        trial
        and plan.actions
        and not any(isinstance(action, CreateRoot | CreateEmptyRoot) for action in plan.actions)
    ):
        workshop.emit(Notice("there is nothing to try: it keeps its root", name))
    root: Root | None = None
    system: LiveSystem | None = None
    with ExitStack() as made:
        if plan.preparation:
            # A throwaway copy is waited for in here, too: it takes another guest's memory.
            with workshop.place():
                for step in plan.preparation:
                    match _prepared(plan.machine, step, workshop, made, trial):
                        case Root() as found:
                            root = found
                        case LiveSystem() as found:
                            system = found
        if plan.switch:
            # The metadata vouches for the volume once it is defined; it is whole from then on.
            begun = switch(plan, root, deployment, workshop, watched, made.close)
            return _booting(plan, begun, plan.machine.ready_timeout, workshop)
    return _changed_live(plan, system, deployment, workshop, watched)


def _changed_live(
    plan: MachinePlan,
    system: LiveSystem | None,
    deployment: str | None,
    workshop: Workshop,
    watched: ExitStack,
) -> Booting | Outcome:
    """Do the changes of PLAN, whose guest stays, or is restarted by what it is changed to.

    SYSTEM is what it is to run, if that was built for it.
    """
    name = plan.machine.name
    try:
        with workshop.interruption.put_off():
            restart = _changed(plan, system, deployment, workshop)
    except HalfDoneError as error:
        return not_even_started(plan, error, workshop)
    for action in plan.changes:
        if isinstance(action, AwaitReady):
            try:
                return _followed(plan, restart, action.timeout, workshop, watched)
            except PyguixvmError as error:
                return not_even_started(plan, error, workshop)
    if plan.pending:
        return Outcome(name, "updated", detail="pending until its restart: " + _pending(plan))
    return Outcome(name, "updated" if plan.actions else "unchanged")


def _prepared(
    machine: VirtualMachine,
    step: Preparation,
    workshop: Workshop,
    made: ExitStack,
    trial: Trial | None,
) -> Root | LiveSystem | None:
    """Do STEP, which leaves MACHINE as it is; return what it makes for it, if that is one of these.

    The root goes again if MADE is closed by an exception before it is defined.
    """
    match step:
        case RealizeImage() | RealizeContent() | RealizeSystem():
            pass  # all were built in one go, before anything was touched
        case FetchImage():
            fetched(machine, step, workshop)
        case CreateRoot() | CreateEmptyRoot():
            root = made.enter_context(_created(machine, step, workshop))
            if trial:
                try_root(machine, root, step.size, workshop, trial)
            return root
        case CreateDisk():
            create_disk(machine, step, workshop)
        case GrowDisk():
            grow_disk(machine, step, workshop)
        case PrepareSystem():
            if step.by == "agent":
                return prepare_live(machine.name, step, workshop)
            prepare(machine.name, step, workshop)
        case _:
            assert_never(step)
    return None


def _changed(
    plan: MachinePlan, system: LiveSystem | None, deployment: str | None, workshop: Workshop
) -> Restart | None:
    """Change the machine of PLAN while its guest runs; return how to restart it if need be.

    Raises HalfDoneError if the guest may be anything in between.
    """
    restart: Restart | None = None
    name = plan.machine.name
    for action in plan.changes:
        match action:
            case DefineDomain():
                define(plan, action, None, deployment, workshop)
            case StackRoot():
                stack_root(plan, action, workshop)
            case KeepLayer():
                keep_layer(plan, workshop)
            case MergeLayers():
                merge_layers(name, action, workshop)
            case ActivateSystem():
                restart = _activated(name, action, system, workshop)
            case AwaitReady():
                pass  # all that may be interrupted comes after this
            case _ if isinstance(action, LiveAction):
                change(name, action, workshop)
            case _:
                raise ValueError(f"{action} is no change to a guest that runs")
    return restart


def _activated(
    name: str, action: ActivateSystem, system: LiveSystem | None, workshop: Workshop
) -> Restart | None:
    try:
        wanted = (
            activate(name, action, workshop)
            if system is None
            else activate_live(name, system, workshop)
        )
    except HalfDoneError:
        raise
    except EvaluationError as error:
        raise HalfDoneError(error.message, hint=error.hint) from error
    except PyguixvmError:
        leave(name, workshop)
        raise
    # Whatever fails from here on, the change was begun: the next deploy goes on with it.
    remember_given(name, system, workshop)
    if wanted is None:
        return None
    if action.restart is None:
        workshop.warn(name, "what it boots by has changed: pending until its restart")
        return None
    return Restart(action.restart, wanted.kernel_loaded)


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
    restart: Restart | None,
    timeout: int,
    workshop: Workshop,
    watched: ExitStack,
) -> Booting:
    """Watch the guest of PLAN, which runs already, or anew if it is to RESTART and does."""
    name = plan.machine.name
    if restart is not None:
        try:
            return _booting(plan, restarted(plan, restart, workshop, watched), timeout, workshop)
        except RequestRefusedError as error:
            workshop.warn(name, f"what it boots by is pending until its restart: {error.message}")
    return _listen(plan, timeout, workshop, watched)


def _booting(plan: MachinePlan, begun: Switched, timeout: int, workshop: Workshop) -> Booting:
    deadline = workshop.clock() + timeout
    return Booting(plan, plan.machine, begun.evidence, deadline, begun.stopped)


def _listen(plan: MachinePlan, timeout: int, workshop: Workshop, watched: ExitStack) -> Booting:
    """Watch a guest that runs already: what it said on its console when it booted is gone."""
    machine = unheard(plan.machine)
    evidence = watched.enter_context(watch(workshop.connection, machine))
    return Booting(plan, machine, evidence, workshop.clock() + timeout, None)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Results as the documents that ``--json`` prints."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec
from msgspec import UNSET, UnsetType

from pyguixvm.cli.documents import (
    ChangedMachine,
    Checked,
    Collected,
    ComparedMachine,
    DeclaredMachine,
    DeployedMachine,
    Error,
    HypervisorPlan,
    ListedMachine,
    MachineGeneration,
    PlannedMachine,
)
from pyguixvm.errors import BuildError, EvaluationError, NotReadyError, PyguixvmError
from pyguixvm.model.declaration import Deployment, Location
from pyguixvm.plan.status import MachineStatus

if TYPE_CHECKING:
    # An error is told without all that these load.
    from pyguixvm.apply.outcome import Outcome
    from pyguixvm.commands.machines import Done
    from pyguixvm.model.listed import Listed
    from pyguixvm.plan.garbage import Garbage
    from pyguixvm.plan.plan import MachinePlan, Plan
    from pyguixvm.plan.rates import Rates


def place(text: str | None) -> Location | None:
    """Return the place that TEXT, ``file:line:column``, names; None if there is none."""
    if text is None:
        return None
    file, line, column = text.rsplit(":", 2)
    return Location(file=file, line=int(line), column=int(column))


def error(failure: PyguixvmError) -> Error:
    """Return FAILURE as it stands in documents."""
    return Error(
        status=failure.status,
        message=failure.message,
        hint=failure.hint,
        location=place(failure.location),
        log=failure.log if isinstance(failure, BuildError) else UNSET,
        tail=failure.tail if isinstance(failure, BuildError) else UNSET,
        console=failure.console if isinstance(failure, NotReadyError) else UNSET,
    )


def errors(failure: PyguixvmError) -> tuple[Error, ...] | UnsetType:
    """Return all that is wrong with a configuration, FAILURE first; nothing of other failures."""
    if not isinstance(failure, EvaluationError):
        return UNSET
    return tuple(error(each) for each in (failure, *failure.others))


def checked(deployment: Deployment) -> Checked:
    """Return the document of what DEPLOYMENT declares."""
    machines = (
        DeclaredMachine(machine=each.name, **msgspec.structs.asdict(each))
        for each in deployment.machines
    )
    return Checked(
        config=deployment.config,
        machines=tuple(machines),
        name=deployment.name,
        warnings=deployment.warnings,
    )


def plan(of_hypervisor: Plan) -> HypervisorPlan:
    """Return a plan as it stands in documents."""
    return HypervisorPlan(
        uri=of_hypervisor.uri,
        machines=tuple(_planned(each) for each in of_hypervisor.machines),
        config=of_hypervisor.config,
        deployment=of_hypervisor.deployment,
        undeclared=of_hypervisor.undeclared,
    )


def _planned(machine: MachinePlan) -> PlannedMachine:
    fields = msgspec.structs.asdict(machine)
    return PlannedMachine(
        **fields
        | {
            "machine": machine.machine.name,
            "declaration": machine.machine,
        }
    )


def deployed(outcome: Outcome) -> DeployedMachine:
    """Return what became of a machine as it stands in documents."""
    return DeployedMachine(
        machine=outcome.machine,
        outcome=outcome.outcome,
        detail=outcome.detail,
        addresses=outcome.addresses,
        error=error(outcome.error) if outcome.error else None,
    )


def changed(done: Done) -> ChangedMachine:
    """Return what was DONE to a machine as it stands in documents."""
    return ChangedMachine(
        machine=done.machine,
        detail=done.detail,
        addresses=done.addresses,
        error=error(done.error) if done.error else UNSET,
    )


def compared(status: MachineStatus, rates: Rates | None = None) -> ComparedMachine:
    """Return how a machine compares, and what it uses in a second, as it stands in documents."""
    return ComparedMachine(
        machine=status.name,
        status=status.status,
        state=status.state,
        ready=status.ready,
        generation=status.generation,
        differences=status.differences,
        foreign=status.foreign,
        detail=status.detail,
        addresses=status.addresses,
        ignored=status.ignored,
        reason=status.reason,
        uuid=status.uuid,
        label=status.label,
        hypervisor=status.hypervisor,
        guest=status.guest,
        inside=status.inside,
        booted=status.booted,
        statistics=status.statistics,
        rates=rates,
        space=status.space,
        deploy=status.deploy,
        origins=status.origins,
    )


def listed(machine: Listed) -> ListedMachine:
    """Return a MACHINE of the list as it stands in documents."""
    return ListedMachine(machine=machine.name, **msgspec.structs.asdict(machine))


def collected(garbage: Garbage, *, removed: bool) -> Collected:
    """Return the document of GARBAGE, which was REMOVED or would be."""
    return Collected(
        removed=removed,
        size=garbage.size,
        generations=tuple(
            MachineGeneration(machine=name, number=number) for name, number in garbage.generations
        ),
        volumes=garbage.volumes,
        kept=garbage.kept,
        copies=garbage.copies,
        stray=garbage.stray,
        garbage=garbage,
    )

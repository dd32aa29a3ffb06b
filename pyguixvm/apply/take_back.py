# SPDX-License-Identifier: GPL-3.0-or-later
"""The way back to the generation before, when a new one does not get ready.

All of it happens on the hypervisor: nothing is needed of the guest.
"""

from __future__ import annotations

from contextlib import ExitStack

import msgspec

from pyguixvm.apply import power
from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import define_by, definition_to_be, require_untouched
from pyguixvm.apply.outcome import Outcome
from pyguixvm.apply.switch import unbroken
from pyguixvm.errors import LostLockError, NotReadyError, PyguixvmError, RolledBackError
from pyguixvm.hypervisor import domains
from pyguixvm.plan.actions import DefineDomain
from pyguixvm.plan.plan import MachinePlan


def taken_back(
    plan: MachinePlan, message: str, console: tuple[str, ...], workshop: Workshop
) -> Outcome:
    """Let the generation to fall back to run again: all of it happens on the hypervisor."""
    name, number = plan.machine.name, plan.fallback
    if number is None:
        raise ValueError("there is nothing to roll back to")
    # Whoever took it over decides what becomes of it.
    workshop.require(name)
    workshop.warn(name, f"{message}; back to generation {number}")
    error: PyguixvmError
    try:
        _return_to(name, number, workshop)
        error = RolledBackError(
            f"{message}; rolled back to generation {number}, which runs again",
            console=console,
            hint="Mend the declaration and deploy again.",
        )
    except LostLockError:
        raise
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
    metadata = domains.read_metadata(connection, name)
    # Work at its disks, which ends with the guest, is lost; what a layer has must not be.
    require_untouched(connection, name, metadata, number)
    if metadata.current != number:
        failed = msgspec.structs.replace(
            metadata.generation, failed=True, deploy=workshop.deploy(over=True)
        )
        workshop.require(name)
        domains.write_metadata(connection, name, metadata.having(failed))
    machine = metadata.find(number).declaration
    way_back = MachinePlan(machine=machine, effect="restart")
    action = DefineDomain(generation=number, autostart=machine.domain.autostart)
    with ExitStack() as watched:
        with (
            definition_to_be(way_back, action, None, None, workshop) as to_be,
            unbroken(to_be.domain, name, workshop, to_be.before),
        ):
            workshop.require(name)
            domains.destroy(connection, to_be.domain or name)
            domain = define_by(name, to_be, action, workshop)
            evidence = power.start(machine, domain, workshop, watched)
        readiness = power.wait(
            machine, evidence, workshop.clock() + machine.ready_timeout, workshop
        )
        if readiness.outcome == "not-ready" and readiness.against:
            raise NotReadyError(readiness.detail, console=readiness.console)

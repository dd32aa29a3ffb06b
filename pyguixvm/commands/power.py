# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are started, stopped, and looked at on their consoles."""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import ExitStack

from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.commands.machines import Done, each_of, machines_metadata, require_unprotected, tried
from pyguixvm.commands.session import Session
from pyguixvm.errors import NotReadyError
from pyguixvm.events import Emit, phase
from pyguixvm.hypervisor import domains, networks, power, terminal
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.guest.evidence import boot, watch
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.interference import not_arrived
from pyguixvm.plan.readiness import Evidence, Readiness, only_speaks, unheard


def start(session: Session, names: Sequence[str]) -> tuple[Done, ...]:
    """Start the machines NAMES, one by one, and wait until each is ready, if it runs already, too.

    Raises NotReadyError if the only one is not in time.
    """
    with connect(session.uri) as connection:
        machines_metadata(connection, names)
        return tried(names, lambda name: _start(connection, name, session.emit))


def _start(connection: Connection, name: str, emit: Emit) -> Done:
    with ExitStack() as watched:
        # Not while it boots: whoever gives up waiting for that may power it off.
        with held(connection, (name,), emit, "start"):
            metadata = domains.read_metadata(connection, name)
            if metadata.arrival is not None and metadata.arrival.fenced:
                raise not_arrived(name, metadata.arrival)
            machine = metadata.generation.declaration
            running = domains.state(connection, name) == "running"
            goes_on = not running and domains.is_memory_kept(connection, name)
            if goes_on:
                networks.ensure_networks(connection, machine)
                domains.start(connection, name)
            elif not running:
                domains.require_reactive(connection, name)
                networks.ensure_networks(connection, machine)
                evidence = watched.enter_context(boot(connection, machine))
        if running or goes_on:
            said = "goes on from where it was" if goes_on else "was running already"
            return _await_running(connection, machine, said, emit)
        readiness = _ready(machine, evidence, "was started", emit)
    return Done(name, f"started: {readiness.detail}", readiness.addresses)


def _await_running(connection: Connection, machine: VirtualMachine, said: str, emit: Emit) -> Done:
    """Wait for what can still be seen of the guest of MACHINE, which runs as is SAID."""
    if not machine.ready or only_speaks(machine):
        return Done(machine.name, said)
    machine = unheard(machine)
    with watch(connection, machine) as evidence:
        readiness = _ready(machine, evidence, said, emit)
    return Done(machine.name, f"{said}: {readiness.detail}", readiness.addresses)


def _ready(machine: VirtualMachine, evidence: Evidence, was: str, emit: Emit) -> Readiness:
    """Wait until MACHINE is ready; raises NotReadyError, which says what it WAS, if it is not."""
    with phase(emit, "ready", machine.name) as result:
        deadline = time.monotonic() + machine.ready_timeout
        readiness = wait_ready(machine, evidence, deadline=deadline, emit=emit)
        result.detail = readiness.detail
    if readiness.outcome == "not-ready":
        raise NotReadyError(
            f"'{machine.name}' {was} but is not ready: {readiness.detail}",
            console=readiness.console,
            hint=f"It was left running. Power it off with: pyguixvm destroy {machine.name}",
        )
    return readiness


def console(session: Session, name: str, stdin: int, stdout: int) -> None:
    """Join the file descriptors STDIN and STDOUT with the console of machine NAME."""
    with connect(session.uri) as connection:
        machines_metadata(connection, [name])
        terminal.attach(connection, name, stdin, stdout)


def shutdown(session: Session, names: Sequence[str], timeout: float) -> tuple[Done, ...]:
    """Ask the guests NAMES to shut down; wait at most TIMEOUT seconds for each."""
    ways = {
        "agent": "shut down by its guest agent",
        "acpi": "shut down by its power button",
        "already": "was not running",
    }

    def one(connection: Connection, name: str) -> str:
        with phase(session.emit, "stop", name, detail=f"within {timeout:g} s"):
            return ways[power.shutdown(connection, name, timeout=timeout)]

    return each_of(session, "shutdown", names, one)


def reboot(session: Session, names: Sequence[str], timeout: float) -> tuple[Done, ...]:
    """Ask the guests NAMES to reboot; wait at most TIMEOUT seconds for each to begin."""

    def one(connection: Connection, name: str) -> str:
        with phase(session.emit, "reboot", name, detail=f"within {timeout:g} s"):
            power.reboot(connection, name, timeout=timeout)
        return "rebooted"

    return each_of(session, "reboot", names, one)


def destroy(session: Session, names: Sequence[str], *, unprotect: bool) -> tuple[Done, ...]:
    """Power the machines NAMES off at once; UNPROTECT: protected ones as well."""
    with connect(session.uri) as connection:
        if not unprotect:
            require_unprotected("destroyed", machines_metadata(connection, names))
    return each_of(
        session,
        "destroy",
        names,
        lambda connection, name: (
            "powered off" if domains.destroy(connection, name) else "was not running"
        ),
    )


def autostart(session: Session, names: Sequence[str], *, on: bool) -> tuple[Done, ...]:
    """Start the machines NAMES with their host from now on, or not."""

    def one(connection: Connection, name: str) -> str:
        domains.set_autostart(connection, name, on)
        return f"autostart {'on' if on else 'off'}"

    return each_of(session, "autostart", names, one)

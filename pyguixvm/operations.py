# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to machines that exist, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence

import msgspec

from pyguixvm.errors import NotReadyError, PyguixvmError, RequestRefusedError
from pyguixvm.events import Emit, phase
from pyguixvm.guix.roots import remove_root, root_path
from pyguixvm.hypervisor import domains, guest, networks, pools, power, terminal, volumes
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.deployment import ConsoleReady, VirtualMachine
from pyguixvm.model.generation import Metadata
from pyguixvm.model.names import data_of
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.pipeline import Session
from pyguixvm.reconcile.readiness import Evidence, Readiness, unheard, wait_ready
from pyguixvm.reconcile.refusals import UNPROTECT_HINT


class Listed(msgspec.Struct, frozen=True, rename="kebab"):
    """One line of the list of machines; LABEL and GENERATION are None for what is not ours."""

    name: str
    state: str
    cpu: int
    memory: int
    autostart: bool
    generation: int | None
    label: str | None
    addresses: tuple[str, ...]


class Done(msgspec.Struct, frozen=True, rename="kebab"):
    """What became of one machine; ERROR is why nothing did."""

    machine: str
    detail: str
    addresses: tuple[str, ...] = ()
    error: PyguixvmError | None = None


class Removal(msgspec.Struct, frozen=True, rename="kebab"):
    """What undefining a machine takes away: (pool, volume) pairs, and its GC roots.

    DATA are volumes of its data disks, which go with DELETE_DATA only.
    """

    machine: str
    running: bool
    volumes: tuple[tuple[str, str], ...]
    generations: tuple[int, ...]
    data: tuple[tuple[str, str], ...] = ()
    delete_data: bool = False


def listed(session: Session, *, everything: bool) -> tuple[Listed, ...]:
    """Return the machines of the session's hypervisor by name; EVERYTHING: other domains, too."""
    with connect(session.uri) as connection:
        domains_found = observe(connection).domains.values()
        return tuple(
            _listed(connection, domain)
            for domain in sorted(domains_found, key=lambda domain: domain.name)
            if everything or _ours(domain)
        )


def _ours(domain: ObservedDomain) -> bool:
    return domain.metadata is not None or domain.unreadable is not None


def _listed(connection: Connection, domain: ObservedDomain) -> Listed:
    current = domain.metadata.generation if domain.metadata else None
    running = domain.state == "running"
    return Listed(
        name=domain.name,
        state=domain.state,
        cpu=(domain.live or domain.defined).cpu,
        memory=(domain.live or domain.defined).memory,
        autostart=domain.autostart,
        generation=current.number if current else None,
        label=current.label if current else domain.unreadable,
        addresses=guest.addresses(connection, domain.name) if running and current else (),
    )


def start(session: Session, names: Sequence[str]) -> tuple[Done, ...]:
    """Start the machines NAMES, one by one, and wait until each is ready, if it runs already, too.

    Raises NotReadyError if the only one is not in time.
    """
    with connect(session.uri) as connection:
        metadata = machines_metadata(connection, names)
        return _tried(names, lambda name: _start(connection, name, metadata[name], session.emit))


def _start(connection: Connection, name: str, metadata: Metadata, emit: Emit) -> Done:
    machine = metadata.generation.declaration
    if domains.state(connection, name) == "running":
        return _await_running(connection, machine, emit)
    for interface in machine.domain.networking:
        networks.ensure_network(connection, interface.network)
    with guest.boot(connection, machine) as evidence:
        readiness = _ready(machine, evidence, "was started", emit)
    return Done(name, f"started: {readiness.detail}", readiness.addresses)


def _await_running(connection: Connection, machine: VirtualMachine, emit: Emit) -> Done:
    """Wait for what can still be seen of the guest of MACHINE, which runs and may boot."""
    said = "was running already"
    if all(isinstance(form, ConsoleReady) for form in machine.ready):
        return Done(machine.name, said)
    machine = unheard(machine)
    with guest.watch(connection, machine) as evidence:
        readiness = _ready(machine, evidence, said, emit)
    return Done(machine.name, f"{said}: {readiness.detail}", readiness.addresses)


def _ready(machine: VirtualMachine, evidence: Evidence, was: str, emit: Emit) -> Readiness:
    """Wait until MACHINE is ready; raises NotReadyError, which says what it WAS, if it is not."""
    with phase(emit, "ready", machine.name) as result:
        readiness = wait_ready(machine, evidence, deadline=time.monotonic() + machine.ready_timeout)
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
        with phase(session.emit, "stop", name):
            return ways[power.shutdown(connection, name, timeout=timeout)]

    return _each(session, names, one)


def reboot(session: Session, names: Sequence[str], timeout: float) -> tuple[Done, ...]:
    """Ask the guests NAMES to reboot; wait at most TIMEOUT seconds for each to begin."""

    def one(connection: Connection, name: str) -> str:
        power.reboot(connection, name, timeout=timeout)
        return "rebooted"

    return _each(session, names, one)


def destroy(session: Session, names: Sequence[str], *, unprotect: bool) -> tuple[Done, ...]:
    """Power the machines NAMES off at once; UNPROTECT: protected ones as well."""
    with connect(session.uri) as connection:
        if not unprotect:
            require_unprotected("destroyed", machines_metadata(connection, names))
    return _each(
        session,
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

    return _each(session, names, one)


def removals(
    session: Session,
    names: Sequence[str],
    *,
    keep_volumes: bool,
    delete_data: bool = False,
    unprotect: bool = False,
) -> tuple[Removal, ...]:
    """Return what undefining the machines NAMES would take away; nothing is done.

    Raises RequestRefusedError if one is protected, unless UNPROTECT.
    """
    with connect(session.uri) as connection:
        metadata = machines_metadata(connection, names)
        if not unprotect:
            require_unprotected("removed", metadata)
        return tuple(
            Removal(
                machine=name,
                running=domains.state(connection, name) != "shut off",
                volumes=() if keep_volumes else tuple(root_volumes(metadata[name])),
                generations=()
                if keep_volumes
                else tuple(g.number for g in metadata[name].generations),
                data=tuple(data_volumes(connection, name)),
                delete_data=delete_data,
            )
            for name in names
        )


def undefine(session: Session, agreed: Sequence[Removal]) -> tuple[Done, ...]:
    """Take away what was AGREED on.

    The definition goes first: a volume without a machine is waste, a machine
    without its volume would be a loss.
    """
    done = []
    with connect(session.uri) as connection:
        for removal in agreed:
            if removal.running:
                domains.destroy(connection, removal.machine)
            domains.undefine(connection, removal.machine)
            for pool, volume in removal.volumes:
                volumes.delete(connection, pool, volume)
            for number in removal.generations:
                remove_root(
                    root_path(session.state_directory, connection.uri, removal.machine, number)
                )
            for pool, volume in removal.data if removal.delete_data else ():
                volumes.delete(connection, pool, volume)
            done.append(Done(removal.machine, _removed(removal)))
    return tuple(done)


def _removed(removal: Removal) -> str:
    if not removal.data or removal.delete_data:
        return "removed"
    kept = ", ".join(volume for _, volume in removal.data)
    return (
        f"removed; its data is kept in {kept} for the next machine of this name "
        "('undefine --delete-data' deletes data, too)"
    )


def root_volumes(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Yield pool and name of each root volume of METADATA, and of what these stand on, once."""
    found = ((each.pool, volume) for each in metadata.generations for volume in each.volumes)
    yield from dict.fromkeys(found)


def data_volumes(connection: Connection, machine: str) -> Iterator[tuple[str, str]]:
    """Yield pool and name of each volume that holds data of MACHINE."""
    for pool in pools.active(connection):
        for volume in volumes.list_ours(connection, pool):
            named = data_of(volume.name)
            if named is not None and named[0] == machine:
                yield pool, volume.name


def require_unprotected(what: str, metadata: Mapping[str, Metadata]) -> None:
    """Raise RequestRefusedError if one of the machines of METADATA may not be dealt with so."""
    for name, remembered in metadata.items():
        if remembered.generation.declaration.protect:
            raise RequestRefusedError(
                f"'{name}' is protected and not {what}; nothing was done",
                hint=UNPROTECT_HINT,
            )


def machines_metadata(connection: Connection, names: Sequence[str]) -> dict[str, Metadata]:
    """Return the metadata of the domains NAMES, having made sure that all exist and are ours."""
    missing = [name for name in names if not domains.exists(connection, name)]
    if missing:
        there = [d.name for d in observe(connection).domains.values() if _ours(d)]
        raise RequestRefusedError(
            f"there is no machine '{missing[0]}' on {connection.uri}",
            hint=f"Machines there: {', '.join(sorted(there)) or 'none'}.",
        )
    return {name: domains.read_metadata(connection, name) for name in names}


def _each(
    session: Session, names: Sequence[str], one: Callable[[Connection, str], str]
) -> tuple[Done, ...]:
    """Do ONE to each of the machines NAMES, all of which are known to be ours."""
    with connect(session.uri) as connection:
        machines_metadata(connection, names)
        return _tried(names, lambda name: Done(name, one(connection, name)))


def _tried(names: Sequence[str], one: Callable[[str], Done]) -> tuple[Done, ...]:
    """Return what ONE makes of each of NAMES: of several, what fails does not stop the others."""
    if len(names) == 1:
        return (one(names[0]),)
    done = []
    for name in names:
        try:
            done.append(one(name))
        except PyguixvmError as error:
            done.append(Done(name, "failed", error=error))
    return tuple(done)

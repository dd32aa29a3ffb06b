# SPDX-License-Identifier: GPL-3.0-or-later
"""What is done to machines that exist, by name."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack
from pathlib import PurePosixPath

import msgspec

from pyguixvm.apply.readiness import wait_ready
from pyguixvm.apply.unused import delete_others, usage
from pyguixvm.commands.pipeline import Session
from pyguixvm.errors import NotReadyError, PyguixvmError, RequestRefusedError
from pyguixvm.events import Emit, phase
from pyguixvm.guix.roots import remove_root, root_path
from pyguixvm.hypervisor import domains, guest, networks, power, terminal, volumes
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import Lock, held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.observation import Observation, ObservedDomain
from pyguixvm.model.usage import Address, Kept, Usage
from pyguixvm.model.volume_names import data_of, data_volume, generation_of
from pyguixvm.plan.interference import (
    require_idle_disks,
    require_own_disks,
    require_unkept,
)
from pyguixvm.plan.refusals import UNPROTECT_HINT


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

    DATA are volumes of its data disks, which go with DELETE_DATA only.  OTHERS are named as
    such, but its definition does not have them: they stay.  KEPT are those that stay since
    something else uses them.
    """

    machine: str
    running: bool
    volumes: tuple[tuple[str, str], ...]
    generations: tuple[int, ...]
    data: tuple[tuple[str, str], ...] = ()
    others: tuple[tuple[str, str], ...] = ()
    delete_data: bool = False
    kept: tuple[Kept, ...] = ()

    @property
    def wanted(self) -> tuple[Address, ...]:
        """The volumes that go unless something else uses them."""
        return (*self.volumes, *(self.data if self.delete_data else ()))


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
    """Start the machines NAMES, one by one, and wait until each is ready.

    Raises NotReadyError if the only one is not in time.
    """
    with connect(session.uri) as connection:
        machines_metadata(connection, names)
        return _tried(names, lambda name: _start(connection, name, session.emit))


def _start(connection: Connection, name: str, emit: Emit) -> Done:
    with ExitStack() as watched:
        # Not while it boots: whoever gives up waiting for that may power it off.
        with held(connection, (name,), emit, "start"):
            if domains.state(connection, name) == "running":
                return Done(name, "was running already")
            machine = domains.read_metadata(connection, name).generation.declaration
            for interface in machine.domain.networking:
                networks.ensure_network(connection, interface.network)
            evidence = watched.enter_context(guest.boot(connection, machine))
        with phase(emit, "ready", name) as result:
            readiness = wait_ready(
                machine, evidence, deadline=time.monotonic() + machine.ready_timeout
            )
            result.detail = readiness.detail
        if readiness.outcome == "not-ready":
            raise NotReadyError(
                f"'{name}' was started but is not ready: {readiness.detail}",
                console=readiness.console,
                hint=f"It was left running. Power it off with: pyguixvm destroy {name}",
            )
    return Done(name, f"started: {readiness.detail}", readiness.addresses)


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

    return _each(session, "shutdown", names, one)


def reboot(session: Session, names: Sequence[str], timeout: float) -> tuple[Done, ...]:
    """Ask the guests NAMES to reboot; wait at most TIMEOUT seconds for each to begin."""

    def one(connection: Connection, name: str) -> str:
        power.reboot(connection, name, timeout=timeout)
        return "rebooted"

    return _each(session, "reboot", names, one)


def destroy(session: Session, names: Sequence[str], *, unprotect: bool) -> tuple[Done, ...]:
    """Power the machines NAMES off at once; UNPROTECT: protected ones as well."""
    with connect(session.uri) as connection:
        if not unprotect:
            require_unprotected("destroyed", machines_metadata(connection, names))
    return _each(
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

    return _each(session, "autostart", names, one)


def removals(
    session: Session,
    names: Sequence[str],
    *,
    keep_volumes: bool,
    delete_data: bool = False,
    unprotect: bool = False,
) -> tuple[Removal, ...]:
    """Return what undefining the machines NAMES would take away; nothing is done.

    Raises RequestRefusedError if one is protected, unless UNPROTECT, and if there are
    snapshots, checkpoints or layers of others, or work that goes on at its disks.
    """
    with connect(session.uri) as connection:
        metadata = machines_metadata(connection, names)
        if not unprotect:
            require_unprotected("removed", metadata)
        observation, used = observe(connection), usage(connection)
        return tuple(
            _removal(
                connection,
                observation,
                name,
                used,
                keep_volumes=keep_volumes,
                delete_data=delete_data,
            )
            for name in names
        )


def _removal(
    connection: Connection,
    observation: Observation,
    name: str,
    used: Usage,
    *,
    keep_volumes: bool,
    delete_data: bool,
) -> Removal:
    domain = observation.domains[name]
    require_unkept(domain)
    require_own_disks(domain)
    require_idle_disks(domain)
    metadata = domain.metadata
    data = tuple(data_volumes(connection, domain))
    removal = Removal(
        machine=name,
        running=domain.state != "shut off",
        volumes=() if keep_volumes or metadata is None else tuple(root_volumes(metadata)),
        generations=() if keep_volumes or metadata is None else metadata.numbers,
        data=data,
        others=tuple(other_data(observation, name, data)),
        delete_data=delete_data,
    )
    kept = used.kept(removal.wanted, leaving={name})
    return msgspec.structs.replace(removal, kept=kept)


def undefine(session: Session, agreed: Sequence[Removal]) -> tuple[Done, ...]:
    """Take away what was AGREED on, and nothing that anything else uses by now.

    The definition goes first: a volume without a machine is waste, a machine
    without its volume would be a loss.
    """
    done = []
    with connect(session.uri) as connection:
        for removal in agreed:
            with held(connection, (removal.machine,), session.emit, "undefine") as lock:
                still = _still(connection, removal)
                _remove(session, connection, still, lock)
            done.append(Done(removal.machine, _removed(still)))
    return tuple(done)


def _still(connection: Connection, agreed: Removal) -> Removal:
    """Return what was AGREED on as it is now.

    Raises RequestRefusedError if that is another machine, or has got another root or disk.
    """
    name = agreed.machine
    machines_metadata(connection, [name])
    now = _removal(
        connection,
        observe(connection),
        name,
        usage(connection),
        keep_volumes=not agreed.generations,
        delete_data=agreed.delete_data,
    )
    if msgspec.structs.replace(now, running=agreed.running, kept=agreed.kept) != agreed:
        raise RequestRefusedError(
            f"'{name}' was changed by somebody else meanwhile; it was left as it is",
            hint="See what would be removed now, and run the command again.",
        )
    return now


def _remove(session: Session, connection: Connection, removal: Removal, lock: Lock) -> None:
    name = removal.machine
    lock.require(name)
    if removal.running:
        domains.destroy(connection, name)
    domains.undefine(connection, name)
    lock.require(name)
    delete_others(connection, removal.wanted, removal.kept)
    needed = {generation_of(each.volume) for each in removal.kept}
    for number in removal.generations:
        if (name, number) not in needed:
            remove_root(root_path(session.state_directory, connection.uri, name, number))


def _removed(removal: Removal) -> str:
    said = ["removed", *map(str, removal.kept)]
    if removal.delete_data and removal.others:
        left = ", ".join(f"{volume} in pool {pool}" for pool, volume in removal.others)
        said.append(f"left, since it was not defined with it: {left}")
    if removal.data and not removal.delete_data:
        data = ", ".join(volume for _, volume in removal.data)
        said.append(
            f"its data is kept in {data} for the next machine of this name "
            "('undefine --delete-data' deletes data, too)"
        )
    return "; ".join(said)


def root_volumes(metadata: Metadata) -> Iterator[tuple[str, str]]:
    """Yield pool and name of each root volume of METADATA, and of what these stand on, once."""
    found = ((each.pool, volume) for each in metadata.generations for volume in each.volumes)
    yield from dict.fromkeys(found)


def data_volumes(connection: Connection, domain: ObservedDomain) -> Iterator[Address]:
    """Yield pool and name of each data volume of DOMAIN: recorded, and where it is defined.

    One that is only called as such a one may be anybody's, a copy or a clone's.
    """
    metadata = domain.metadata
    recorded = {
        data_volume(generation.declaration.name, disk.name)
        for generation in (metadata.generations if metadata else ())
        for disk in generation.declaration.domain.disks
        if isinstance(disk, DataDisk)
    }
    disks = (*domain.defined.disks, *(domain.live.disks if domain.live else ()))
    for path in dict.fromkeys(disks):
        if PurePosixPath(path).name in recorded:
            found = volumes.at(connection, path)
            if found is not None:
                yield found.pool, found.name


def other_data(
    observation: Observation, machine: str, data: Collection[Address]
) -> Iterator[Address]:
    """Yield pool and name of volumes that are named as MACHINE's, and are none of its DATA."""
    for pool, there in observation.pools.items():
        for volume in there:
            named = data_of(volume)
            if named is not None and named[0] == machine and (pool, volume) not in data:
                yield pool, volume


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
    session: Session, verb: str, names: Sequence[str], one: Callable[[Connection, str], str]
) -> tuple[Done, ...]:
    """Do ONE, which is VERB, to each of the machines NAMES, all of which are known to be ours."""
    with connect(session.uri) as connection:
        machines_metadata(connection, names)

        def alone(name: str) -> Done:
            with held(connection, (name,), session.emit, verb):
                return Done(name, one(connection, name))

        return _tried(names, alone)


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

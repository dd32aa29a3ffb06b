# SPDX-License-Identifier: GPL-3.0-or-later
"""What is on a hypervisor now, in one request for each domain and some for all."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from enum import Flag, auto
from functools import partial
from pathlib import Path, PurePosixPath

import libvirt
import msgspec
from lxml import etree

from pyguixvm.hypervisor import data_records
from pyguixvm.hypervisor.at_once import begun, each
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.hypervisor.guest.inside import with_insides
from pyguixvm.hypervisor.host import host_of
from pyguixvm.hypervisor.host_parts import HostParts, lost_parts
from pyguixvm.hypervisor.machine_lock.lock import holders
from pyguixvm.hypervisor.machine_lock.secret import all_secrets
from pyguixvm.hypervisor.observe_domain import (
    Read,
    capacities,
    described,
    kept_of,
    read,
    with_addresses,
    with_disks,
    without_data,
    without_root,
)
from pyguixvm.hypervisor.observe_volumes import stored, whole_volumes
from pyguixvm.hypervisor.shared_directories import store_access
from pyguixvm.hypervisor.shell import has_shell
from pyguixvm.hypervisor.states import all_states
from pyguixvm.hypervisor.statistics import pool_spaces, statistics
from pyguixvm.model.data_record import FoundRecord
from pyguixvm.model.observation import (
    Host,
    HostPart,
    Observation,
    ObservedDomain,
    State,
    disks_of,
)
from pyguixvm.model.statistics import PoolSpace, Statistics
from pyguixvm.model.volume_names import data_of, is_store_item

# What is listed of domains beside their states, each in a request of its own.
_LISTS = (
    libvirt.VIR_CONNECT_LIST_DOMAINS_AUTOSTART,
    libvirt.VIR_CONNECT_LIST_DOMAINS_PERSISTENT,
    libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_SNAPSHOT,
    libvirt.VIR_CONNECT_LIST_DOMAINS_HAS_CHECKPOINT,
)


class Depth(Flag):
    """What an observation holds beside domains and the names of volumes: each costs requests."""

    DOMAINS = 0
    # What the hypervisor's machine has.
    HOST = auto()
    # Of our machines that run.
    ADDRESSES = auto()
    # Sizes of our volumes, what they stand on, and whether they are whole.
    VOLUMES = auto()
    # Who is changing which machine.
    HOLDERS = auto()
    # What is remembered of data volumes for the machines that are looked at closely.
    RECORDS = auto()
    # What domains use, in one request for all, and how full the pools are.
    STATISTICS = auto()
    # What the guests of our machines say, each of which has some seconds for it.
    GUESTS = auto()


def observe(
    connection: Connection,
    depth: Depth = Depth.DOMAINS,
    *,
    machines: Collection[str] | None = None,
    before: Observation | None = None,
) -> Observation:
    """Return what is on the hypervisor, to DEPTH; domains that vanish meanwhile are left out.

    What others made of their disks is seen of MACHINES only, of all of ours if that is None.
    What was seen BEFORE is not looked at again: the host, and domains but those of MACHINES.

    Whoever shows something of a hypervisor, or plans for it, looks at it here.
    """
    when = before.begun if before else time.time()
    handle, far = connection.handle, not connection.local
    there = begun(partial(whole_volumes, connection), far=far)
    host = begun(partial(_host_seen, connection, depth, before), far=far)
    secrets = begun(partial(_secrets, connection, depth), far=far)
    spaces = begun(partial(_spaces, connection, depth), far=far)
    used = begun(partial(_used, connection, depth), far=far)
    # Those of these names are as they were listed last, as a rule.
    listed = map(connection.resolved.domain, machines or ()) if far else ()
    reading = {each.UUIDString(): read(each, far=True) for each in listed if each is not None}
    with explained("list the domains"):
        autostarted, persistent, snapshots, checkpoints = (
            begun(partial(_uuids, handle, flag), far=far) for flag in _LISTS
        )
        domains = all_states(handle)
        connection.resolved.keep_domains(domain for domain, _, _ in domains)
        looking = _Looking(
            connection,
            depth,
            machines,
            before,
            named=frozenset(domain.name() for domain, _, _ in domains),
            autostarted=autostarted(),
            persistent=persistent(),
            kept=snapshots() | checkpoints(),
            used=used(),
            parts=HostParts(connection),
            read=reading,
        )
        seen = each(looking.at, domains, far=far)
    observed = [domain for domain in seen if domain is not None]
    if Depth.GUESTS in depth:
        ours = [domain for domain, _, _ in domains]
        observed = list(with_insides(observed, ours, read_only=connection.read_only))
    observed = [
        without_data(connection, without_root(connection, domain, there()), there())
        for domain in observed
    ]
    wanted = partial(_is_missing, observed, machines)
    return Observation(
        uri=connection.uri,
        local=connection.local,
        domains={domain.name: domain for domain in observed},
        volumes=tuple(sorted({name for names in there().values() for name in names})),
        pools=there(),
        images=frozenset(_images_here(observed)),
        store=store_access(connection.uri, os.geteuid()),
        host=host(),
        stored=tuple(stored(connection)) if Depth.VOLUMES in depth else (),
        holders=_holders(connection, secrets()) if Depth.HOLDERS in depth else {},
        recorded=_recorded(connection, secrets(), wanted, there())
        if Depth.RECORDS in depth
        else (),
        begun=when,
        spaces=spaces(),
        shell=has_shell(connection.uri),
    )


@dataclass(frozen=True)
class _Looking:
    """A look at each domain, to DEPTH, where all domains are NAMED.

    MACHINES and BEFORE are as for `observe`.  Of all domains, by their UUIDs: those that are
    AUTOSTARTED, PERSISTENT, those of which libvirt has KEPT something, and what they USED.
    PARTS is what tells what they are defined with, and the host lacks.  Of some it was begun
    before to READ by what they are defined, and run.
    """

    connection: Connection
    depth: Depth
    machines: Collection[str] | None
    before: Observation | None
    named: frozenset[str]
    autostarted: frozenset[str]
    persistent: frozenset[str]
    kept: frozenset[str]
    used: Mapping[str, Statistics]
    parts: HostParts
    read: Mapping[str, Read]

    def at(self, listed: tuple[libvirt.virDomain, State, str | None]) -> ObservedDomain | None:
        """Return the domain that is LISTED with its state and why; None if it is gone by now."""
        domain, state, reason = listed
        uuid = domain.UUIDString()
        try:
            known, live = self._known(domain, uuid, state), None
            if known is None:
                known, live = self._described(domain, uuid, state)
            found = msgspec.structs.replace(
                known,
                autostart=uuid in self.autostarted,
                persistent=uuid in self.persistent,
                reason=reason,
                statistics=self.used.get(uuid),
            )
            if Depth.ADDRESSES in self.depth:
                found = with_addresses(self.connection, domain, found, live)
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_DOMAIN):
                return None
            raise
        return found

    def _close(self, name: str) -> bool:
        return self.machines is None or name in self.machines

    def _known(self, domain: libvirt.virDomain, uuid: str, state: State) -> ObservedDomain | None:
        """Return DOMAIN as it was seen before, if that will do."""
        if self.before is None or self._close(domain.name()):
            return None
        known = self.before.domains.get(domain.name())
        if known is None or known.uuid != uuid:
            return None
        return msgspec.structs.replace(known, state=state)

    def _described(
        self, domain: libvirt.virDomain, uuid: str, state: State
    ) -> tuple[ObservedDomain, etree._Element | None]:
        far, close = not self.connection.local, self._close(domain.name())
        # Of what others run, nobody wants to know that.
        ours = self.machines is not None and close
        runs_ours = far and ours and state != "shut off"
        defined, runs = self.read.get(uuid) or read(domain, far=runs_ours)
        found, live = described(state, self.named.__contains__, runs, defined())
        if found.name != domain.name():
            # It was renamed between the two requests.
            defined, runs = read(domain, far=runs_ours)
            found, live = described(state, self.named.__contains__, runs, defined())
        if found.metadata is None:
            return found, live
        lost = begun(partial(self._lost, found), far=far and Depth.HOST in self.depth)
        if close:
            sizes = begun(partial(capacities, self.connection, domain, found), far=far)
            kept = (kept_of(domain, far=far),) if uuid in self.kept else ()
            found = with_disks(self.connection, domain, found, *kept)
            found = msgspec.structs.replace(found, capacities=sizes())
        return msgspec.structs.replace(found, lost=lost()), live

    def _lost(self, found: ObservedDomain) -> tuple[HostPart, ...]:
        if Depth.HOST not in self.depth:
            return ()
        before = self.before.domains.get(found.name) if self.before else None
        return lost_parts(self.parts, found, before)


def _used(connection: Connection, depth: Depth) -> dict[str, Statistics]:
    return statistics(connection) if Depth.STATISTICS in depth else {}


def _spaces(connection: Connection, depth: Depth) -> tuple[PoolSpace, ...]:
    return pool_spaces(connection) if Depth.STATISTICS in depth else ()


def _secrets(connection: Connection, depth: Depth) -> list[libvirt.virSecret]:
    if not depth & (Depth.HOLDERS | Depth.RECORDS):
        return []
    with explained("list the secrets"):
        return all_secrets(connection)


def _holders(connection: Connection, secrets: Iterable[libvirt.virSecret]) -> dict[str, str]:
    return {machine: str(holder) for machine, holder in holders(connection, secrets).items()}


def _recorded(
    connection: Connection,
    secrets: Iterable[libvirt.virSecret],
    wanted: Callable[[str], bool],
    there: Mapping[str, Collection[str]],
) -> tuple[FoundRecord, ...]:
    """Return the records among SECRETS of data volumes WANTED; THERE are those of each pool."""
    return tuple(
        data_records.compared(connection, each)
        if each.volume in there.get(each.pool, ())
        else FoundRecord(each)
        for each in data_records.among(secrets, wanted)
    )


def _is_missing(
    observed: Iterable[ObservedDomain], machines: Collection[str] | None, volume: str
) -> bool:
    """Whether VOLUME is called as that of one of MACHINES, any if None, that is without it.

    OBSERVED are the domains that there are.
    """
    named = data_of(volume)
    if named is None or (machines is not None and named[0] not in machines):
        return False
    own = (each for each in observed if each.name == named[0])
    return all(
        PurePosixPath(file).name != volume
        for domain in own
        for file in disks_of(domain.defined, domain.live)
    )


def _host_seen(connection: Connection, depth: Depth, before: Observation | None) -> Host:
    if Depth.HOST not in depth:
        return Host()
    return host_of(connection) if before is None else before.host


def _images_here(observed: Iterable[ObservedDomain]) -> Iterator[str]:
    """Yield the images of generations of OBSERVED that this machine's store has."""
    for domain in observed:
        for generation in domain.metadata.generations if domain.metadata else ():
            if is_store_item(generation.image) and Path(generation.image).exists():
                yield generation.image


def _uuids(handle: libvirt.virConnect, flag: int) -> frozenset[str]:
    """Return the UUIDs of the domains that FLAG lists."""
    return frozenset(domain.UUIDString() for domain in handle.listAllDomains(flag))

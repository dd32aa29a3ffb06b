# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines move from one hypervisor to another."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from shlex import quote

from pyguixvm.advice import mended_at
from pyguixvm.apply import live_migration, migration
from pyguixvm.apply.moved_volumes import Move, Shared
from pyguixvm.commands.gc_roots import known, reconcile, release, roots_at
from pyguixvm.commands.hosts import Host, Hosts, Way
from pyguixvm.commands.machines import Done, is_ours, tried
from pyguixvm.commands.session import Session
from pyguixvm.commands.undefine import data_volumes
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.hypervisor import domains
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.migration import Line
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.hypervisor.observe_domain import observe_domain
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation
from pyguixvm.model.volume_names import variables_volume
from pyguixvm.plan.migration import require_movable, require_place, root_layers


def migrate(
    session: Session,
    names: Sequence[str],
    declared: Sequence[VirtualMachine] = (),
    to: str | None = None,
    line: Line = Line(),  # noqa: B008 -- frozen
) -> tuple[Done, ...]:
    """Move the machines NAMES to the hypervisors that they are DECLARED for, or all to that at TO.

    They are looked for on all hypervisors of DECLARED, and that of the session.  Guests that run
    go by LINE.  Of several, one that fails does not stop the others.  Raises PyguixvmError if
    the only one cannot be.
    """
    targets = {each.name: each.hypervisor or session.uri for each in declared}
    unknown = [name for name in names if to is None and name not in targets]
    if unknown:
        raise RequestRefusedError(
            f"no machine '{unknown[0]}' is declared",
            hint=f"Declared are: {', '.join(sorted(targets)) or 'none'}. Of others, --to tells "
            "where they are to be.",
        )
    with ExitStack() as opened:
        hosts = Hosts(opened, verify=session.verify)
        for uri in dict.fromkeys([session.uri, *targets.values()]):
            hosts.try_to_reach(uri)

        def one(name: str) -> Done:
            way = way_of(hosts, name, hosts.at(to or targets[name]))
            return Done(name, moved(session, way, line))

        return tried(names, one)


def moved(session: Session, way: Way, line: Line, shared: Shared | None = None) -> str:
    """Move the machine of WAY, or finish that; return what was done.  LINE is as for `migrate`.

    SHARED is what all have that move side by side.
    """
    if way.source is None:
        return f"is on {way.target.uri} already"
    shared = shared or Shared()
    with _locked(session, way.name, way.source, way.target, shared) as move:
        detail = _carried_out(move, line)
    # What one saw is old when another one has come.
    with shared.turns.at("roots"):
        _keep_from_collector(session, way.source.connection, way.target.connection)
    return detail


def way_of(hosts: Hosts, name: str, target: Host, leaving: Host | None = None) -> Way:
    """Return the way of machine NAME to TARGET: from LEAVING, if there are several of that name.

    Raises RequestRefusedError and HypervisorError if there is none.
    """
    return Way(name, _source(hosts, name, target, leaving), target)


def _source(hosts: Hosts, name: str, target: Host, leaving: Host | None) -> Host | None:
    """Return where machine NAME comes from; None if it is at TARGET, and left nothing elsewhere.

    It comes from LEAVING, if that has it.

    Raises RequestRefusedError if it is nowhere, or at several places.
    """
    domain = target.there.domains.get(name)
    arrival = domain.metadata.arrival if domain and domain.metadata else None
    if arrival is not None:
        host = hosts.that_is(arrival.source) or hosts.at(arrival.uri)
        # UUIDs of boards are not unique, and a host has several hypervisors.
        if host.which != arrival.source or host.which == target.which:
            raise RequestRefusedError(
                f"'{name}' came from {arrival.uri}, and that leads to another hypervisor by now",
                hint="Find the one that it came from, and see with 'virsh list --all' whether it "
                "is there still. Nothing was changed.",
            )
        if arrival.fenced:
            _require_nowhere_else(hosts, name, target, host)
        return host
    found = [each for each in hosts.but(target) if _has(each.there, name)]
    if leaving in found:
        return leaving
    if len(found) > 1:
        raise RequestRefusedError(
            f"'{name}' is on {' and on '.join(host.uri for host in found)}",
            hint="Nothing was done. Give that one by -c from which it is to go, and --to.",
        )
    if found:
        return found[0]
    if domain is not None and is_ours(domain):
        return None
    for uri, error in hosts.lost.items():
        raise HypervisorError(
            f"'{name}' may be on {uri}, which cannot be looked at: {error.message}", hint=error.hint
        )
    raise RequestRefusedError(
        f"there is no machine '{name}' to move to {target.uri}",
        hint="It was looked for on all hypervisors of the configuration, and that of -c: give "
        "the one that has it.",
    )


def _require_nowhere_else(hosts: Hosts, name: str, target: Host, source: Host) -> None:
    """Raise RequestRefusedError if machine NAME, on its way to TARGET, is not at SOURCE alone.

    From there, it may have gone on to another one: what was sent to TARGET is old then.
    """
    for other in hosts.but(target):
        if other.which != source.which and _has(other.there, name):
            raise RequestRefusedError(
                f"'{name}' is on its way to {target.uri} from {source.uri}, and is on {other.uri}, "
                "too",
                hint="Nothing was changed. If that one is to stay, give up what was sent: virsh "
                f"-c {quote(target.uri)} undefine --nvram {name}, and delete its volumes there.",
            )


def _has(there: Observation, name: str) -> bool:
    domain = there.domains.get(name)
    return domain is not None and is_ours(domain)


@contextmanager
def _locked(
    session: Session, name: str, source: Host, target: Host, shared: Shared
) -> Iterator[Move]:
    """Have machine NAME be ours to change, at SOURCE and at TARGET, in the body."""
    # In the same order whichever way it goes: no two wait for each other.
    first, second = sorted((source, target), key=lambda host: repr(host.which))
    with (
        held(first.connection, (name,), session.emit, "migrate") as one,
        held(second.connection, (name,), session.emit, "migrate") as other,
    ):

        def require() -> None:
            one.require(name)
            other.require(name)

        digests = Digests(session.state_directory)
        yield Move(
            name, source.connection, target.connection, session.emit, digests, require, shared
        )


def _carried_out(move: Move, line: Line) -> str:
    """Move what MOVE says, or go on with it; return what was done.  LINE is as for `migrate`."""
    # What was seen before the locks were held may not be so any more.
    there = observe(move.target, Depth.HOST)
    found = there.domains.get(move.name)
    if found is None or found.metadata is None or found.metadata.arrival is None:
        _send(move, there, line)
    _, metadata, domain = migration.defined(move, move.target)
    if metadata.arrival is not None and not metadata.arrival.fenced:
        live_migration.settle_source(move, domain)
    try:
        return migration.settle(move)
    except migration.ChangedMeanwhileError:
        migration.take_back(move)
        raise


def _send(move: Move, there: Observation, line: Line) -> None:
    """Send the machine of MOVE to its target, where all this is THERE."""
    domain = observe_domain(move.source, move.name)
    with mended_at(move.source.uri):
        metadata = require_movable(domain, move.target.uri)
    data = tuple(data_volumes(move.source, domain))
    sent = [*(layer.address for layer in root_layers(metadata)), *data]
    if domain.defined.firmware == "uefi":
        sent.append((metadata.generation.pool, variables_volume(move.name)))
    with mended_at(move.target.uri):
        require_place(metadata, domain, there, sent)
    # What is observed of one domain says nothing of that.
    autostart = domains.autostart(move.source, move.name)
    if domain.state == "shut off":
        migration.send(move, data, autostart=autostart)
        return
    if domain.state == "paused" and not domains.exists(move.target, move.name):
        raise RequestRefusedError(
            f"'{move.name}' is paused on {move.source.uri}, and only what runs or is shut off is "
            "moved",
            hint=f"Nothing was done. A move that was broken off may have left it so: it is not on "
            f"{move.target.uri}. If it runs nowhere else, let it go on: virsh -c "
            f"{quote(move.source.uri)} resume {move.name}",
        )
    if domain.state != "running":
        raise RequestRefusedError(
            f"'{move.name}' is {domain.state}, and only what runs or is shut off is moved",
            hint="Nothing was done. Let it go on, or shut it down: pyguixvm -c "
            f"{quote(move.source.uri)} shutdown {move.name}",
        )
    live_migration.move_live(move, data, autostart=autostart, line=line)


def _keep_from_collector(session: Session, source: Connection, target: Connection) -> None:
    """Have GC roots here for what stands on the store now, and none for what did."""
    arrived = known(observe(target, Depth.HOST))
    reconcile(session, roots_at(session, target), arrived, local=target.local)
    release(session, source, observe(source, Depth.HOST))

# SPDX-License-Identifier: GPL-3.0-or-later
"""All machines of a hypervisor go to others, side by side."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from functools import partial
from threading import Lock, Semaphore

from pyguixvm.apply.executor import Task, heeding, side_by_side
from pyguixvm.apply.moved_volumes import Shared
from pyguixvm.apply.outcome import Outcome
from pyguixvm.commands.deploy import JOBS
from pyguixvm.commands.hosts import Host, Hosts, Way
from pyguixvm.commands.machines import Done, is_ours
from pyguixvm.commands.migrate import moved, way_of
from pyguixvm.commands.session import Session
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.hypervisor.migration import Line
from pyguixvm.interruption import taken
from pyguixvm.model.declaration import VirtualMachine


def evacuate(  # noqa: PLR0917 -- what goes from where to where, and how
    session: Session,
    uri: str,
    declared: Sequence[VirtualMachine] = (),
    to: str | None = None,
    line: Line = Line(),  # noqa: B008 -- frozen
    jobs: int = JOBS,
) -> tuple[Done, ...]:
    """Move our machines from the hypervisor at URI to where they are DECLARED, or to that at TO.

    JOBS of them go at once.  One that cannot go, or is declared to be there, stays, and says
    why; the others go on.  What is on its way from there, or left something, is finished where
    it is going, if that is one of these.  LINE is as for `migrate`.  Raises HypervisorError if the
    one at URI cannot be reached.
    """
    targets = {each.name: each.hypervisor or session.uri for each in declared}
    leaving = replace(session, uri=uri, emit=heeding(session.emit))
    with ExitStack() as opened:
        hosts = Hosts(opened, verify=session.verify)
        source = hosts.at(uri)
        names = {name for name, each in source.there.domains.items() if is_ours(each)}
        for other in dict.fromkeys([*([to] if to else []), *targets.values()]):
            hosts.try_to_reach(other)
        begun = hosts.with_arrivals(source)
        places, shared, alone = Semaphore(jobs), Shared(), Lock()

        def way(name: str) -> Way:
            # One looks at a time: that may lead to yet another hypervisor.
            with taken(alone):
                target = begun.get(name) or _target(hosts, source, name, targets, to)
                return way_of(hosts, name, target, source)

        def one(name: str) -> Outcome:
            with taken(places):
                move = partial(moved, leaving, line=line, shared=shared)
                detail = _apart(way(name), move, alone)
            return Outcome(name, "updated", detail)

        tasks = [Task(name, partial(one, name)) for name in sorted({*names, *begun})]
        outcomes = side_by_side(tasks, leaving.interruption, leaving.emit)
    return tuple(
        Done(each.machine, "stays" if each.error else each.detail, error=each.error)
        for each in outcomes
    )


def _apart(way: Way, move: Callable[[Way], str], alone: Lock) -> str:
    """Return what MOVE does with WAY by connections of its own, or ALONE by those of all."""
    with way.apart() as own:
        if own is not None:
            return move(own)
    with taken(alone):
        return move(way)


def _target(
    hosts: Hosts, source: Host, name: str, targets: Mapping[str, str | None], to: str | None
) -> Host:
    """Return where machine NAME, which is at SOURCE, goes.  Raises PyguixvmError if nowhere."""
    if to is None and name not in targets:
        raise RequestRefusedError(
            f"'{name}' stays on {source.uri}: it is not declared",
            hint="--to tells where those are to go that are not.",
        )
    wanted = to or targets[name]
    try:
        target = hosts.at(wanted)
    except HypervisorError as error:
        raise HypervisorError(
            f"'{name}' stays on {source.uri}: {error.message}", hint=error.hint
        ) from error
    if target.which == source.which:
        raise RequestRefusedError(
            f"'{name}' stays on {source.uri}, which is where it is to be",
            hint="Declare another hypervisor for it, or give --to.",
        )
    return target

# SPDX-License-Identifier: GPL-3.0-or-later
"""All machines of a hypervisor go to others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace

from pyguixvm.commands.machines import Done, is_ours
from pyguixvm.commands.migrate import Host, Hosts, moved
from pyguixvm.commands.session import Session
from pyguixvm.errors import HypervisorError, PyguixvmError, RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine


def evacuate(
    session: Session,
    uri: str,
    declared: Sequence[VirtualMachine] = (),
    to: str | None = None,
    by: str | None = None,
) -> tuple[Done, ...]:
    """Move our machines from the hypervisor at URI to where they are DECLARED, or to that at TO.

    One after the other.  One that cannot go, or is declared to be there,
    stays, and says why; the others go on.  What is on its way from there, or left something, is
    finished where it is going, if that is one of these.  BY is as for `migrate`.  Raises
    HypervisorError if the one at URI cannot be reached.
    """
    targets = {each.name: each.hypervisor or session.uri for each in declared}
    leaving = replace(session, uri=uri)
    done = []
    with ExitStack() as opened:
        hosts = Hosts(opened, verify=session.verify)
        source = hosts.at(uri)
        names = {name for name, each in source.there.domains.items() if is_ours(each)}
        for other in dict.fromkeys([*([to] if to else []), *targets.values()]):
            hosts.try_to_reach(other)
        begun = hosts.with_arrivals(source)
        for name in sorted({*names, *begun}):
            try:
                target = begun.get(name) or _target(hosts, source, name, targets, to)
                done.append(moved(leaving, hosts, name, target, by, source))
            except PyguixvmError as error:
                done.append(Done(name, "stays", error=error))
    return tuple(done)


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

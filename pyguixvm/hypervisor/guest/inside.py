# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest runs, and how it is, as its agent says, or itself over ssh."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import libvirt
import msgspec

from pyguixvm.hypervisor.guest import agent, program, script
from pyguixvm.hypervisor.guest.over_ssh import inside_over_ssh
from pyguixvm.model.guest import FileSystem, Inside
from pyguixvm.model.observation import ObservedDomain

# Libvirtd answers some twenty requests at once, and others want to be answered, too.
_AT_ONCE = 8
# How long (seconds) a guest may take for all that it is asked.
PATIENCE = 15.0
_NANOSECONDS = 1e9


class _Mounted(msgspec.Struct, frozen=True, rename="kebab"):
    mountpoint: str
    total_bytes: int | None = None
    used_bytes: int | None = None


def inside(
    domain: libvirt.virDomain,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Inside | None:
    """Return what the agent of DOMAIN, which listens, says of its guest; None if it is silent.

    One that says nothing costs `agent.SECONDS`, and all that it is asked not much more than
    PATIENCE.
    """
    with suppress(libvirt.libvirtError):
        agent.limit(domain, agent.SECONDS)
    ticks = agent.ask(domain, "guest-get-time", int)
    if ticks is None:
        return None
    ahead = ticks / _NANOSECONDS - clock()
    ran = program.run(
        domain, script.SHELL, ("-c", script.SCRIPT), PATIENCE, sleep, answer=agent.SECONDS
    )
    said = script.understood(ran.out if ran is not None else "")
    mounted = agent.ask(domain, "guest-get-fsinfo", tuple[_Mounted, ...])
    return msgspec.structs.replace(
        said.inside,
        clock=round(ahead, 1),
        file_systems=None if mounted is None else tuple(_file_systems(mounted)),
    )


def with_insides(
    observed: Sequence[ObservedDomain],
    domains: Iterable[libvirt.virDomain],
    *,
    read_only: bool = False,
) -> Iterator[ObservedDomain]:
    """Yield OBSERVED with what the guests of our machines among DOMAINS say, side by side.

    READ_ONLY: nobody lets us ask their agents.
    """
    by_uuid = {domain.UUIDString(): domain for domain in domains}
    asked = [
        each
        for each in observed
        if each.state == "running" and each.metadata and (_listens(each) or each.addresses)
    ]

    def ask(each: ObservedDomain) -> Inside | None:
        said = inside(by_uuid[each.uuid]) if _listens(each) and not read_only else None
        return said or inside_over_ssh(each.addresses, each.uuid)

    if not asked:
        yield from observed
        return
    with ThreadPoolExecutor(_AT_ONCE, "guest") as pool:
        said = dict(zip((each.uuid for each in asked), pool.map(ask, asked), strict=True))
    for each in observed:
        found = said.get(each.uuid)
        yield each if found is None else msgspec.structs.replace(each, inside=found)


def _listens(observed: ObservedDomain) -> bool:
    return observed.live is not None and observed.live.agent_listens


def _file_systems(mounted: tuple[_Mounted, ...]) -> Iterator[FileSystem]:
    for each in mounted[: script.MOST]:
        found = script.file_system(each.mountpoint, each.total_bytes, each.used_bytes)
        if found is not None:
            yield found

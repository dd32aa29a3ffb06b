# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest runs, and how it is, as its agent says.

Everything that it says is taken for what it may be, a store item, a number, a name, and for
nothing else; what is none of these is not known.
"""

from __future__ import annotations

import math
import re
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor

import libvirt
import msgspec

from pyguixvm.hypervisor.guest import agent, program
from pyguixvm.model.guest import FileSystem, Inside
from pyguixvm.model.observation import ObservedDomain

# Libvirtd answers some twenty requests at once, and others want to be answered, too.
_AT_ONCE = 8
# How long (seconds) a guest may take for all that it is asked.
PATIENCE = 15.0
_SHELL = "/run/current-system/profile/bin/sh"
# Of what a guest says, so much is read (entries, characters of each).
_MOST = 64
_LONGEST = 255
_ITEM = re.compile(r"/gnu/store/[0-9a-z]{32}-[A-Za-z0-9+._?=-]{1,200}")
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._/@:-]{0,99}")
_NANOSECONDS = 1e9
# No guest runs for longer (seconds).
_AGES = 1e10
# A line each: a word, and what it says.  Nothing is written, and nobody is waited for.
_SCRIPT = r"""
PATH=/run/current-system/profile/bin:/run/current-system/profile/sbin
export PATH
booted=
read -r line < /proc/cmdline
for word in $line; do
    case $word in gnu.system=*) booted=${word#gnu.system=} ;; esac
done
running=$(readlink -f /run/current-system)
echo "booted $booted"
echo "running $running"
read -r uptime idle < /proc/uptime
echo "uptime $uptime"
for part in kernel initrd; do
    echo "$part $(readlink -f "$booted/$part") $(readlink -f "$running/$part")"
done
if failed=$(timeout 12 herd status 2> /dev/null); then
    echo services
    echo "$failed" | head -n 500 | sed -n '/^Failed/,/^[^ ]*:$/s/^ [^A-Za-z0-9]*/failed /p'
fi
"""


class _Mounted(msgspec.Struct, frozen=True, rename="kebab"):
    mountpoint: str
    total_bytes: int | None = None
    used_bytes: int | None = None


def inside(
    domain: libvirt.virDomain,
    clock: Callable[[], float] = time.time,
    sleep: Callable[[float], None] = time.sleep,
) -> Inside | None:
    """Return what the agent of DOMAIN says of its guest, None if there is none that answers.

    One that says nothing costs `agent.SECONDS`, and all that it is asked not much more than
    PATIENCE.
    """
    if not agent.connected(domain):
        return None
    ticks = agent.ask(domain, "guest-get-time", int)
    if ticks is None:
        return None
    ahead = ticks / _NANOSECONDS - clock()
    ran = program.run(domain, _SHELL, ("-c", _SCRIPT), PATIENCE, sleep, answer=agent.SECONDS)
    lines = ran.out.splitlines() if ran is not None else []
    mounted = agent.ask(domain, "guest-get-fsinfo", tuple[_Mounted, ...])
    said: dict[str, list[str]] = {}
    for line in lines[:_MOST]:
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())
    return Inside(
        booted=_item(said.get("booted")),
        running=_item(said.get("running")),
        restart=_restart(said),
        uptime=_seconds(said.get("uptime")),
        clock=round(ahead, 1),
        failed=tuple(_names(said.get("failed", []))) if "services" in said else None,
        file_systems=None if mounted is None else tuple(_file_systems(mounted)),
    )


def with_insides(
    observed: Sequence[ObservedDomain], domains: Iterable[libvirt.virDomain]
) -> Iterator[ObservedDomain]:
    """Yield OBSERVED with what the guests of our machines among DOMAINS say, side by side."""
    by_uuid = {domain.UUIDString(): domain for domain in domains}
    asked = [each.uuid for each in observed if each.state == "running" and each.metadata]
    with ThreadPoolExecutor(_AT_ONCE, "guest") as pool:
        said = dict(zip(asked, pool.map(lambda uuid: inside(by_uuid[uuid]), asked), strict=True))
    for each in observed:
        found = said.get(each.uuid)
        yield each if found is None else msgspec.structs.replace(each, inside=found)


def _item(said: list[str] | None) -> str | None:
    """Return the store item that SAID names, if it names one."""
    found = _ITEM.fullmatch(said[0]) if said else None
    return found[0] if found else None


def _restart(said: dict[str, list[str]]) -> bool | None:
    """Whether kernel or initrd of what booted are others than those of what runs, if known."""
    parts = []
    for part in ("kernel", "initrd"):
        words = said.get(part, [""])[0].split()
        if len(words) != 2:  # noqa: PLR2004 -- of what booted, and of what runs
            return None
        parts.append(words[0] != words[1])
    return any(parts)


def _seconds(said: list[str] | None) -> float | None:
    try:
        seconds = float(said[0][:_LONGEST]) if said else math.nan
    except ValueError:
        return None
    return seconds if 0 <= seconds < _AGES else None


def _names(said: list[str]) -> Iterator[str]:
    return (name for name in said if _SERVICE.fullmatch(name))


def _file_systems(mounted: tuple[_Mounted, ...]) -> Iterator[FileSystem]:
    for each in mounted[:_MOST]:
        total, used = each.total_bytes, each.used_bytes
        # What has no blocks, the store's overlay for example, cannot be full.
        if total and used is not None and 0 <= used <= total and len(each.mountpoint) <= _LONGEST:
            yield FileSystem(each.mountpoint, total, used)

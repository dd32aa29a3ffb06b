# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest's shell is to say of it, and what of that is taken; pure.

Everything that it says is taken for what it may be, a store item, a number, a name, and for
nothing else; what is none of these is not known.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator

import msgspec

from pyguixvm.model.boot_messages import system_named
from pyguixvm.model.guest import FileSystem, Inside

# The name that a shell has in any Guix System.
SHELL = "/run/current-system/profile/bin/sh"
# Of what a guest says, so much is read (entries, characters of each).
MOST = 64
LONGEST = 255
_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._/@:-]{0,99}")
# No guest runs for longer (seconds).
_AGES = 1e10
_BYTES = 2**63
# A line each: a word, and what it says.  Nothing is written, and nobody is waited for.
SCRIPT = r"""
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
read -r uuid < /sys/class/dmi/id/product_uuid
echo "uuid $uuid"
echo "clock $(date +%s)"
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


# As QEMU's agent tells them: only what is on disks.
FILE_SYSTEMS = r"""
df -P -B 1 -x tmpfs -x devtmpfs -x overlay 2> /dev/null | tail -n +2 | head -n 50 |
    while read -r device total used free percent target; do
        echo "disk $total $used $target"
    done
"""


class Said(msgspec.Struct, frozen=True):
    """What a guest's shell said: UUID is that of the domain that it takes itself for."""

    inside: Inside
    uuid: str | None = None
    clock: float | None = None


def understood(text: str) -> Said:
    """Return what TEXT, which SCRIPT wrote in a guest, says."""
    said: dict[str, list[str]] = {}
    for line in text.splitlines()[:MOST]:
        word, _, rest = line.partition(" ")
        said.setdefault(word, []).append(rest.strip())
    inside = Inside(
        booted=_item(said.get("booted")),
        running=_item(said.get("running")),
        restart=_restart(said),
        uptime=_seconds(said.get("uptime")),
        failed=tuple(_names(said.get("failed", []))) if "services" in said else None,
        file_systems=tuple(_file_systems(said["disk"])) if "disk" in said else None,
    )
    uuid = said.get("uuid", [""])[0].lower()[:LONGEST]
    return Said(inside, uuid or None, _seconds(said.get("clock")))


def _item(said: list[str] | None) -> str | None:
    """Return the store item that SAID names, if it names one."""
    return system_named(said[0]) if said else None


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
        seconds = float(said[0][:LONGEST]) if said else math.nan
    except ValueError:
        return None
    return seconds if 0 <= seconds < _AGES else None


def _names(said: list[str]) -> Iterator[str]:
    return (name for name in said if _SERVICE.fullmatch(name))


def file_system(target: str, total: int | None, used: int | None) -> FileSystem | None:
    """Return the file system at TARGET of TOTAL bytes, USED ones among them, if it can be one.

    What has no blocks, the store's overlay for example, cannot be full.
    """
    if not total or used is None or len(target) > LONGEST:
        return None
    if not 0 <= used <= total < _BYTES:
        return None
    return FileSystem(target, total, used)


def _file_systems(said: list[str]) -> Iterator[FileSystem]:
    for each in said:
        total, used, target = [*each.split(" ", 2), "", ""][:3]
        if total.isdecimal() and used.isdecimal() and len(each) <= LONGEST:
            found = file_system(target, int(total), int(used))
            if found is not None:
                yield found

# SPDX-License-Identifier: GPL-3.0-or-later
"""Store items come to a guest that runs, and a program among them is run there.

What unpacks them is a shell: whatever else a guest's system has, it has one, with tar,
mount, unshare and flock beside it (%base-packages in Guix's (gnu system)).
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import our_domain
from pyguixvm.hypervisor.guest import program
from pyguixvm.hypervisor.guest.log import Log
from pyguixvm.hypervisor.guest.parcel_disk import SERIAL
from pyguixvm.hypervisor.guest.program import Ran

# How long (seconds) a guest may take for all that it is told to do.
PATIENCE = 900.0
_SHELL = "/run/current-system/profile/bin/sh"
_PARCEL = "/run/pyguixvm-parcel"
# Exit statuses of the script: as in sysexits.h.
_NOT_UNPACKED = 73
_INCOMPLETE = 75

# Run by root.  An item is in the store as a whole or not at all, wherever this is ended, even
# by a power failure, and what an ended one left is removed.  One runs at a time: one that was
# left alone by who began it goes on.  The store is written to in a mount namespace that ends
# with it, as Guix's daemon does: elsewhere it stays read-only.
_SCRIPT = r"""
PATH=/run/current-system/profile/bin:/run/current-system/profile/sbin
export PATH
parcel=$1 serial=$2 program=$3 log=$4
[ -z "$log" ] || exec 2>> "$log"
# A disk that was plugged in just now may take its time to show.
tries=100
while [ -z "$parcel" ]; do
    for file in /sys/block/*/serial; do
        [ ! -e "$file" ] || [ "$(cat "$file")" != "$serial" ] ||
            { parcel=${file%/serial}; parcel=/dev/${parcel##*/}; }
    done
    [ -n "$parcel" ] || { tries=$((tries - 1)); [ $tries -gt 0 ] && sleep 0.1; } || exit 73
done
exec 9> /run/pyguixvm.lock && flock -w 600 9 || exit 73
for other in /run/pyguixvm-log-*; do [ "$other" = "$log" ] || rm -f "$other"; done
unshare -m sh -c '
    parcel=$1 store=/gnu/store
    new=$store/.pyguixvm
    mount -o remount,bind,rw $store 2> /dev/null
    rm -rf $new && mkdir $new && tar -x -f "$parcel" -C $new || exit 73
    sync -f $store
    set --
    for item in $new/store/*; do
        there=$store/${item##*/}
        [ -e "$there" ] || [ -L "$there" ] || [ ! -e "$item" -a ! -L "$item" ] ||
            set -- "$@" "$item"
    done
    [ $# = 0 ] || mv -- "$@" $store/ || exit 73
    complete=0
    while read -r item; do
        [ -e "$item" ] || [ -L "$item" ] || { complete=75; echo "missing $item"; }
    done < $new/closure
    mv $new/registration /run/pyguixvm-registration || exit 73
    rm -rf $new
    [ -b "$parcel" ] || rm -f "$parcel"
    exit $complete
' sh "$parcel" || exit
# Guile's first half second goes to garbage and to machine code that runs once: under TCG, a
# third of the activation.
export GC_INITIAL_HEAP_SIZE=64M GUILE_JIT_THRESHOLD=-1
exec "$program" /run/pyguixvm-registration
"""


class Delivered(msgspec.Struct, frozen=True):
    """What came of a delivery.

    MISSING are store items that the guest lacks still: its program was not run.  RAN is how
    that ended, None if nobody knows.  UNPACKED: the items came, so that it was run.
    """

    unpacked: bool
    missing: tuple[str, ...] = ()
    ran: Ran | None = None


def offered(connection: Connection, name: str) -> bool:
    """Whether the guest of domain NAME has an agent that takes a delivery."""
    return program.offered(our_domain(connection, name))


def deliver(  # noqa: PLR0917 -- to whom, what, and for how long
    connection: Connection,
    name: str,
    parcel: Path | None,
    run: str,
    tell: Callable[[str], None],
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Delivered:
    """Have the guest of domain NAME take the items in PARCEL, and RUN a program among them.

    TELL is called with each line that is written to standard error, while that goes on.
    PARCEL goes through the agent, which takes about a second for each 3 MiB; None where it
    is plugged in as a disk.
    """
    domain = our_domain(connection, name)
    if parcel is not None and not program.write(domain, _PARCEL, parcel):
        return Delivered(unpacked=False)
    file, serial = (_PARCEL, "") if parcel is not None else ("", SERIAL)
    log = Log(domain, tell)
    arguments = ("-c", _SCRIPT, "sh", file, serial, run, log.path)
    ran = program.run(domain, _SHELL, arguments, PATIENCE, sleep, clock, meanwhile=log.read)
    log.end()
    if ran is not None and log.path:
        ran = msgspec.structs.replace(ran, err=log.tail.decode(errors="replace"))
    if ran is not None and ran.status == _INCOMPLETE:
        words = (line.split() for line in ran.out.splitlines())
        missing = tuple(word[1] for word in words if word[:1] == ["missing"])
        return Delivered(unpacked=True, missing=missing)
    return Delivered(unpacked=ran is None or ran.status != _NOT_UNPACKED, ran=ran)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Store items come to a guest that runs, and a program among them is run there.

Its agent carries them, or else ssh, where its host key is known and root is let in.
What unpacks them is a shell: whatever else a guest's system has, it has one, with tar,
mount, unshare and flock beside it (%base-packages in Guix's (gnu system)).
"""

from __future__ import annotations

import shlex
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import libvirt
import msgspec

from pyguixvm import process
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import our_domain
from pyguixvm.hypervisor.guest import program
from pyguixvm.hypervisor.guest.addresses import addresses
from pyguixvm.hypervisor.guest.log import Log, Sparing
from pyguixvm.hypervisor.guest.over_ssh import login
from pyguixvm.hypervisor.guest.parcel_disk import SERIAL
from pyguixvm.hypervisor.guest.program import Ran
from pyguixvm.process import Completed

# How long (seconds) a guest may take for all that it is told to do.
PATIENCE = 900.0
_SHELL = "/run/current-system/profile/bin/sh"
_PARCEL = "/run/pyguixvm-parcel"
# How long (seconds) a guest that is busy may take for its first words and to let us in, and what
# is kept of its last words (bytes).
_CONNECT_SECONDS, _LOGIN_SECONDS = 10, 20.0
_LAST = 4096
# What is taken of what ssh passes on (bytes): a guest writes what it likes.
_MOST = 4 * 1024**2
# Of ssh(1), and where that was ended itself.
_CONNECTION_LOST = frozenset({255, *range(-64, 0)})
_CAT = "/run/current-system/profile/bin/cat"
_IDENTIFY = """
PATH=/run/current-system/profile/bin
[ "$(tr A-F a-f < /sys/class/dmi/id/product_uuid)" = "$1" ]
"""
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
    rm -rf $new && mkdir $new || exit 73
    # What has no room takes none.
    tar -x -f "$parcel" -C $new || { rm -rf $new; exit 73; }
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


@dataclass(frozen=True)
class ByAgent:
    """The agent of DOMAIN, which takes about a second for each 3 MiB."""

    domain: libvirt.virDomain
    sleep: Callable[[float], None]
    clock: Callable[[], float]
    words: str = "its agent"

    def write(self, parcel: Path) -> bool:
        """Have the guest have PARCEL; whether it does."""
        return program.write(self.domain, _PARCEL, parcel)

    def run(self, arguments: Sequence[str], tell: Callable[[str], None]) -> Ran | None:
        """Have the guest's shell run the script with ARGUMENTS; None if nobody knows how it ended.

        TELL is called with each line that is written to standard error, while that goes on.
        """
        log = Log(self.domain, tell)
        words = ("-c", _SCRIPT, "sh", *arguments, log.path)
        ran = program.run(
            self.domain, _SHELL, words, PATIENCE, self.sleep, self.clock, meanwhile=log.read
        )
        log.end()
        if ran is None or not log.path:
            return ran
        return msgspec.structs.replace(ran, err=log.tail.decode(errors="replace"))


@dataclass(frozen=True)
class BySsh:
    """The command LOGIN, which leads root into a guest that takes itself for domain UUID."""

    login: Sequence[str]
    uuid: str

    @property
    def words(self) -> str:
        """How the guest is reached."""
        return f"ssh at {self.login[-1]}"

    def reached(self) -> bool:
        """Whether it lets us in, and is that guest: an address may be another one's by now."""
        done = self._done(_IDENTIFY, [self.uuid], timeout=_LOGIN_SECONDS)
        return done is not None and done.status == 0

    def write(self, parcel: Path) -> bool:
        """Have the guest have PARCEL; whether it does."""
        done = self._done(f"umask 077; {_CAT} > {_PARCEL}", [], stdin=parcel.read_bytes())
        return done is not None and done.status == 0

    def run(self, arguments: Sequence[str], tell: Callable[[str], None]) -> Ran | None:
        """Do as by the agent."""
        done = self._done(_SCRIPT, [*arguments, ""], tell=tell)
        if done is None or done.status in _CONNECTION_LOST:
            return None
        return Ran(
            done.status,
            done.stdout.decode(errors="replace"),
            done.stderr[-_LAST:].decode(errors="replace"),
        )

    def _done(
        self,
        script: str,
        arguments: Sequence[str],
        *,
        stdin: bytes | None = None,
        tell: Callable[[str], None] | None = None,
        timeout: float = PATIENCE,
    ) -> Completed | None:
        command = shlex.join([_SHELL, "-c", script, "sh", *arguments])
        with suppress(process.CommandTimeoutError, process.MissingProgramError):
            return process.run(
                [*self.login, command],
                stdin=stdin,
                timeout=timeout,
                most=_MOST,
                on_error_line=None if tell is None else Sparing(tell),
                check=False,
            )
        return None


Carrier: TypeAlias = ByAgent | BySsh


def carrier(
    connection: Connection,
    name: str,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> Carrier | None:
    """Return what takes a delivery to the guest of domain NAME, None if nothing does."""
    domain = our_domain(connection, name)
    if program.offered(domain):
        return ByAgent(domain, sleep, clock)
    uuid = domain.UUIDString()
    there = addresses(connection, name, seen_by_host=True)
    command = login(there, alias=f"{name}-{uuid}", connect=_CONNECT_SECONDS)
    found = None if command is None else BySsh(command, uuid)
    return found if found is not None and found.reached() else None


def deliver(by: Carrier, parcel: Path | None, run: str, tell: Callable[[str], None]) -> Delivered:
    """Have a guest take the items in PARCEL, and RUN a program among them, BY what reaches it.

    TELL is called with each line that is written to standard error, while that goes on.
    PARCEL is None where it is plugged in as a disk.
    """
    if parcel is not None and not by.write(parcel):
        return Delivered(unpacked=False)
    file, serial = (_PARCEL, "") if parcel is not None else ("", SERIAL)
    ran = by.run((file, serial, run), tell)
    if ran is not None and ran.status == _INCOMPLETE:
        words = (line.split() for line in ran.out.splitlines())
        missing = tuple(word[1] for word in words if word[:1] == ["missing"])
        return Delivered(unpacked=True, missing=missing)
    return Delivered(unpacked=ran is None or ran.status != _NOT_UNPACKED, ran=ran)

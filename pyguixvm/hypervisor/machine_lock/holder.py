# SPDX-License-Identifier: GPL-3.0-or-later
"""Who holds the lock of a machine, and whether that process is known to have died."""

from __future__ import annotations

import getpass
import os
import socket
from contextlib import suppress
from datetime import UTC, datetime
from pathlib import Path

import msgspec

# Names of people and hosts are shorter (characters).
_LONGEST = 64
# Fields of /proc/PID/stat, counted from behind the command's name (proc_pid_stat(5)).
_STATE, _START_TIME = 0, 19
_DEAD = ("Z", "X")


class Holder(msgspec.Struct, frozen=True, rename="kebab"):
    """Who holds a lock, for what VERB, SINCE when (UTC in ISO 8601).

    PROCESS is a number, and START_TIME the time (clock ticks after BOOT) that tells it
    from others of that number, where they are known; both mean something only to those
    with the same BOOT identity and NAMESPACES, of processes and of time.
    """

    user: str
    host: str
    verb: str
    process: int
    since: str
    start_time: int | None = None
    boot: str | None = None
    namespaces: tuple[str, ...] = ()

    def __str__(self) -> str:
        """In words, for whoever waits: what others wrote is shortened, without control codes."""
        user, host, verb, since = map(_plain, (self.user, self.host, self.verb, self.since))
        return f"{user}@{host} ({verb}, process {self.process}) since {since}"


def myself(verb: str) -> Holder:
    """Return this process as one that holds a lock for VERB from now on."""
    return Holder(
        user=_plain(_user()),
        host=_plain(socket.gethostname()),
        verb=verb,
        process=os.getpid(),
        since=datetime.now(UTC).isoformat(timespec="seconds"),
        start_time=_start_time(os.getpid()),
        boot=_boot(),
        namespaces=_namespaces(),
    )


def operator() -> str:
    """Return who works here, ``user@host``."""
    return f"{_plain(_user())}@{_plain(socket.gethostname())}"


def has_died(holder: Holder) -> bool:
    """Whether HOLDER is known to have died; False if it cannot be known from here.

    The name of a host and the number of a process tell nothing: hosts have the same
    names, and containers the same numbers.
    """
    here = _boot(), _namespaces()
    if not all(here) or here != (holder.boot, holder.namespaces) or holder.process <= 0:
        return False
    try:
        os.kill(holder.process, 0)
    except ProcessLookupError:
        return True
    except (PermissionError, OverflowError):
        pass
    stat = _stat(holder.process)
    # Of other users' processes, /proc may show nothing.
    if stat is None or holder.start_time is None:
        return False
    return stat[_STATE] in _DEAD or int(stat[_START_TIME]) != holder.start_time


def _user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a user without a name
        return str(os.getuid())


def _boot() -> str | None:
    with suppress(OSError):
        return Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii").strip()
    return None


def _namespaces() -> tuple[str, ...]:
    """Return what process numbers, and start times, are relative to; empty if not known."""
    with suppress(OSError):
        own = Path("/proc/self/ns")
        # Linux has namespaces of time since 5.6.
        times = own / "time"
        return str((own / "pid").readlink()), str(times.readlink()) if times.is_symlink() else ""
    return ()


def _start_time(process: int) -> int | None:
    stat = _stat(process)
    return None if stat is None else int(stat[_START_TIME])


def _stat(process: int) -> list[str] | None:
    """Return the fields of /proc/PROCESS/stat from the state on, None if they are not shown."""
    with suppress(OSError):
        # In a namespace of processes without a /proc of its own, it shows others' numbers.
        if str(Path("/proc/self").readlink()) == str(os.getpid()):
            text = Path(f"/proc/{process}/stat").read_bytes().decode(errors="replace")
            return text.rpartition(")")[2].split()
    return None


def _plain(text: str) -> str:
    return "".join(c if c.isprintable() else "?" for c in text[:_LONGEST])

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a program that reads what strangers wrote can do, if they break it.

It reads the system's programs and what it is told to, writes only where it is told to, leaves
the modes, owners, attributes and times of files as they are, opens no socket but one that it is
told to listen at, gains no rights, and has bounds of memory and time.  As root, it can read and
write what it may as if that were its own, and nothing else that root can.  The kernel sees to
that, where it can: by Landlock (linux/landlock.h), a filter of system calls (linux/seccomp.h),
capabilities and limits.

Landlock and the filter hold for one thread and for what it starts.  So there is a thread that
does nothing else: nothing has to be run between fork and exec, and no other program comes in.
It stays for as long as it is needed, for a program may be to end with it (PR_SET_PDEATHSIG).
"""

from __future__ import annotations

import os
import resource
import struct
import threading
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

import msgspec

from pyguixvm.system_calls import filter_for

if TYPE_CHECKING:
    import ctypes

_Result = TypeVar("_Result")

_MEMORY = 4 * 1024**3  # bytes
_CPU = 1800  # seconds

# What programs are made of, and what they look at to know where they are.
_SYSTEM = (
    "/usr", "/lib", "/lib32", "/lib64", "/bin", "/sbin", "/gnu/store", "/nix/store",
    "/run/current-system", "/opt", "/proc", "/sys", "/etc/ld.so.cache", "/etc/ld.so.preload",
    "/etc/localtime", "/etc/locale.alias", "/etc/mke2fs.conf", "/etc/e2fsck.conf", "/etc/mtab",
    "/etc/fstab", "/etc/ssl/openssl.cnf", "/etc/gnutls", "/etc/crypto-policies", "/etc/magic",
)  # fmt: skip
_DEVICES = ("/dev/null", "/dev/zero", "/dev/random", "/dev/urandom")

# LANDLOCK_ACCESS_FS_*
_EXECUTE, _WRITE_FILE, _READ_FILE, _READ_DIR, _TRUNCATE = 1, 2, 4, 8, 1 << 14
_REMOVE_FILE, _MAKE_REG, _MAKE_SOCK = 1 << 5, 1 << 8, 1 << 9
_READ = _READ_FILE | _READ_DIR
_WRITE = _READ | _WRITE_FILE | _TRUNCATE | _REMOVE_FILE | _MAKE_REG
_LISTEN = _READ_DIR | _REMOVE_FILE | _MAKE_SOCK
_OF_FILES = _EXECUTE | _WRITE_FILE | _READ_FILE | _TRUNCATE
# How many of them there are, by version of Landlock: what it does not know cannot be forbidden.
_RIGHTS = {1: 13, 2: 14, 3: 15, 4: 15}
_MOST_RIGHTS = 16
# Neither signals nor abstract sockets reach out of it (LANDLOCK_SCOPE_*), from version 6 on.
_SCOPES, _SCOPES_FROM = 3, 6
_NETWORK_FROM = 4
_CREATE_RULESET, _ADD_RULE, _RESTRICT_SELF = 444, 445, 446

_PR_SET_SECCOMP, _PR_CAPBSET_DROP, _PR_SET_NO_NEW_PRIVS = 22, 24, 38
# linux/capability.h: a root's files and images may be another user's.
_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH = 1, 2
_CAPABILITY_VERSION, _CAPABILITY_WORDS = 0x20080522, "6I"
_POINTER = 8  # bytes


class Confinement(msgspec.Struct, frozen=True):
    """What a program may use: files and directories that it READS, and those that it WRITES.

    In the directory that it LISTENS in, if there is one, it makes a socket for others.
    """

    reads: tuple[Path, ...] = ()
    writes: tuple[Path, ...] = ()
    listens: Path | None = None


@contextmanager
def started(
    confinement: Confinement, program: Path, start: Callable[[], _Result]
) -> Iterator[_Result]:
    """Yield what START returns, which starts PROGRAM within CONFINEMENT.

    The thread that it is called in ends with the body.
    """
    result: list[_Result] = []
    failed: list[BaseException] = []
    begun, over = threading.Event(), threading.Event()

    def run() -> None:
        try:
            _confine(confinement, program)
            result.append(start())
        except BaseException as error:  # noqa: BLE001 -- it is raised below
            failed.append(error)
        begun.set()
        over.wait()

    thread = threading.Thread(target=run, name="confined", daemon=True)
    thread.start()
    begun.wait()
    try:
        if failed:
            raise failed[0]
        yield result[0]
    finally:
        over.set()
        thread.join()


def bound(pid: int) -> None:
    """Give the process PID, just started, its bounds of memory and time, and no core file."""
    for limit, most in (
        (resource.RLIMIT_AS, _MEMORY),
        (resource.RLIMIT_CPU, _CPU),
        (resource.RLIMIT_CORE, 0),
    ):
        # One that has ended already needs none; where it may be no more, it has less.
        with suppress(OSError, ValueError):
            resource.prlimit(pid, limit, (most, most))


def bounds_hint(status: int) -> str | None:
    """Return what to tell of a confined program that ended with STATUS, as in `Completed`."""
    if status >= 0:
        return None
    return (
        f"It was bound to {_MEMORY // 1024**3} GiB of memory and {_CPU // 60} minutes of CPU time; "
        "see the kernel's log for whether the computer was short of memory itself."
    )


def _confine(confinement: Confinement, program: Path) -> None:
    """Have this thread, and what it starts, do no more than CONFINEMENT says."""
    import ctypes

    c = ctypes.CDLL(None, use_errno=True)
    if c.prctl(_PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0:
        return
    _restrict_files(c, confinement, program)
    _drop_capabilities(c)
    _refuse_calls(c, listens=confinement.listens is not None)


def _restrict_files(c: ctypes.CDLL, confinement: Confinement, program: Path) -> None:
    version = c.syscall(_CREATE_RULESET, None, 0, 1)
    if version < 1:
        return  # a kernel without it
    rights = (1 << _RIGHTS.get(version, _MOST_RIGHTS)) - 1
    attributes = struct.pack("Q", rights)
    if version >= _NETWORK_FROM:
        attributes += struct.pack("Q", 0)
    if version >= _SCOPES_FROM:
        attributes += struct.pack("Q", _SCOPES)
    rules = c.syscall(_CREATE_RULESET, attributes, len(attributes), 0)
    if rules < 0:
        return
    try:
        for paths, allowed in (
            ((*_SYSTEM, program.resolve().parent.parent), _READ | _EXECUTE),
            (_DEVICES, _READ_FILE | _WRITE_FILE),
            (confinement.reads, _READ),
            (confinement.writes, _WRITE),
            ([confinement.listens] if confinement.listens else (), _LISTEN),
        ):
            _allow(c, rules, paths, allowed & rights)
        c.syscall(_RESTRICT_SELF, rules, 0)
    finally:
        os.close(rules)


def _allow(c: ctypes.CDLL, rules: int, paths: Iterable[str | Path], allowed: int) -> None:
    for path in paths:
        if str(path) == "/":
            continue
        try:
            there = os.open(path, os.O_PATH | os.O_CLOEXEC)
        except OSError:
            continue
        try:
            mine = allowed if os.path.isdir(path) else allowed & _OF_FILES  # noqa: PTH112 -- fast
            c.syscall(_ADD_RULE, rules, 1, struct.pack("=Qi", mine, there), 0)
        finally:
            os.close(there)


def _drop_capabilities(c: ctypes.CDLL) -> None:
    """Have what this thread starts get no capability but those to read and write files."""
    import ctypes

    for each in range(64):
        if each in {_CAP_DAC_OVERRIDE, _CAP_DAC_READ_SEARCH}:
            continue
        if c.prctl(_PR_CAPBSET_DROP, each, 0, 0, 0) != 0:
            break  # there are no more, or it is not for us, who have none to pass on
    # What is inheritable passes that bound; what is ambient goes with it.
    header = struct.pack("Ii", _CAPABILITY_VERSION, 0)
    held = ctypes.create_string_buffer(struct.calcsize(_CAPABILITY_WORDS))
    if c.capget(header, held) == 0:
        effective, permitted, inheritable, effective_2, permitted_2, _ = struct.unpack(
            _CAPABILITY_WORDS, held.raw
        )
        kept = inheritable & (1 << _CAP_DAC_OVERRIDE | 1 << _CAP_DAC_READ_SEARCH)
        words = (effective, permitted, kept, effective_2, permitted_2, 0)
        c.capset(header, struct.pack(_CAPABILITY_WORDS, *words))


def _refuse_calls(c: ctypes.CDLL, *, listens: bool) -> None:
    """Have this thread make no call that `system_calls` refuses."""
    import ctypes

    # A program of 32 bits under that kernel is of another architecture, which has other numbers.
    if struct.calcsize("P") != _POINTER:
        return
    code = filter_for(os.uname().machine, listens=listens)
    if code is None:
        return
    held = ctypes.create_string_buffer(code)
    program = struct.pack("HxxxxxxP", len(code) // 8, ctypes.addressof(held))
    c.prctl(_PR_SET_SECCOMP, 2, program, 0, 0)

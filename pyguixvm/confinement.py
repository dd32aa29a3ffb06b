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
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, TypeAlias, TypeVar

import msgspec

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

# What is refused: it makes a socket, or changes what is known about a file, for which Landlock
# has no right and which takes none on the directory; or it is for who changes the kernel.
# Machine -> AUDIT_ARCH_* and the numbers of system calls (asm/unistd.h).
_GENERIC = (
    52, 53,  # fchmod fchmodat
    54, 55,  # fchownat fchown
    5, 6, 7, 14, 15, 16,  # setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    88,  # utimensat
    105, 273, 280,  # init_module finit_module bpf
)  # fmt: skip
_REFUSED = {
    "x86_64": (0xC000003E, (
        90, 91, 268,  # chmod fchmod fchmodat
        92, 93, 94, 260,  # chown fchown lchown fchownat
        188, 189, 190, 197, 198, 199,  # as above
        132, 235, 261, 280,  # utime utimes futimesat utimensat
        175, 313, 321,  # init_module finit_module bpf
    )),
    "aarch64": (0xC00000B7, _GENERIC),
    "riscv64": (0xC00000F3, _GENERIC),
    "ppc64le": (0xC0000015, (
        102,  # socketcall
        15, 94, 297,  # chmod fchmod fchmodat
        181, 95, 16, 289,  # chown fchown lchown fchownat
        209, 210, 211, 218, 219, 220,  # as above
        30, 251, 290, 304,  # utime utimes futimesat utimensat
        128, 353, 361,  # init_module finit_module bpf
    )),
}  # fmt: skip
# The newer ones have the same numbers everywhere:
# io_uring_setup, fchmodat2, setxattrat, removexattrat and file_setattr.
_REFUSED_EVERYWHERE = (425, 452, 463, 466, 469)
# socket and connect
_SOCKETS = {
    "x86_64": (41, 42),
    "aarch64": (198, 203),
    "riscv64": (198, 203),
    "ppc64le": (326, 328),
}
# AF_UNIX, SOCK_STREAM, and what may come with that.
_LOCAL, _STREAM, _KIND = 1, 1, 0xF
_X32 = 0x40000000
_POINTER = 8  # bytes
_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
# Where a filter finds the call, of which architecture it is, and its first two arguments (struct
# seccomp_data; all of these machines are little-endian).
_CALL, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ERRNO, and EPERM


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
    """Have this thread make no call of _REFUSED: what listens at a socket may do more than it.

    One that LISTENS makes sockets of its own, and reaches no other one's.
    """
    import ctypes

    machine = os.uname().machine
    known = _REFUSED.get(machine)
    # A program of 32 bits under that kernel is of another architecture, which has other numbers.
    if known is None or struct.calcsize("P") != _POINTER:
        return
    architecture, numbers = known
    socket, connect = _SOCKETS[machine]
    refused = (*numbers, *_REFUSED_EVERYWHERE, connect if listens else socket)
    # Load a word of what is called; go on, or jump to one of the two ends.
    code: list[_Instruction] = [
        (_LOAD, "", "", _ARCHITECTURE),
        (_EQUAL, "", "refuse", architecture),
        (_LOAD, "", "", _CALL),
        (_AT_LEAST, "refuse", "", _X32),
        *((_EQUAL, "refuse", "", number) for number in refused),
    ]
    if listens:
        code += [
            (_EQUAL, "", "allow", socket),
            (_LOAD, "", "", _FIRST),
            (_EQUAL, "", "refuse", _LOCAL),
            (_LOAD, "", "", _SECOND),
            (_AND, "", "", _KIND),
            (_EQUAL, "", "refuse", _STREAM),
        ]
    held = ctypes.create_string_buffer(_assembled(code))
    program = struct.pack("HxxxxxxP", len(code) + 2, ctypes.addressof(held))
    c.prctl(_PR_SET_SECCOMP, 2, program, 0, 0)


# What to do, where to go on if so and if not ("" is the next one), and with which number.
_Instruction: TypeAlias = tuple[int, str, str, int]


def _assembled(code: Sequence[_Instruction]) -> bytes:
    """Return CODE for the kernel, with what it may jump to behind it: "allow" and "refuse"."""
    ends = {"allow": len(code), "refuse": len(code) + 1}

    def jump(here: int, there: str) -> int:
        return ends[there] - here - 1 if there else 0

    lines = [(do, jump(i, so), jump(i, no), value) for i, (do, so, no, value) in enumerate(code)]
    lines += [(_RETURN, 0, 0, _ALLOW), (_RETURN, 0, 0, _REFUSE)]
    return b"".join(struct.pack("HBBI", *each) for each in lines)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The system calls that a confined program cannot make, as a filter for the kernel.

What is refused makes a socket, or changes what is known about a file, for which Landlock has
no right and which takes none on the directory; or it bounds other processes, or is for who
changes the kernel.  The filter is a program of classic BPF (linux/seccomp.h, linux/bpf_common.h).
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import NamedTuple, TypeAlias

# ioctl(2) writes to a file (asm/ioctl.h): the direction that a request has.
_WRITES, _WRITES_ON_POWER = 1 << 30, 1 << 31


class _Machine(NamedTuple):
    """Its AUDIT_ARCH_*, and numbers of system calls (asm/unistd.h): those REFUSED, and others."""

    architecture: int
    refused: tuple[int, ...]
    socket: int
    connect: int
    ioctl: int
    prlimit: int
    writes: int = _WRITES


_GENERIC = (
    52, 53,  # fchmod fchmodat
    54, 55,  # fchownat fchown
    5, 6, 7, 14, 15, 16,  # setxattr lsetxattr fsetxattr removexattr lremovexattr fremovexattr
    88,  # utimensat
    105, 273, 280,  # init_module finit_module bpf
)  # fmt: skip
_MACHINES = {
    "x86_64": _Machine(0xC000003E, (
        90, 91, 268,  # chmod fchmod fchmodat
        92, 93, 94, 260,  # chown fchown lchown fchownat
        188, 189, 190, 197, 198, 199,  # as above
        132, 235, 261, 280,  # utime utimes futimesat utimensat
        175, 313, 321,  # init_module finit_module bpf
    ), 41, 42, 16, 302),
    "aarch64": _Machine(0xC00000B7, _GENERIC, 198, 203, 29, 261),
    "riscv64": _Machine(0xC00000F3, _GENERIC, 198, 203, 29, 261),
    "ppc64le": _Machine(0xC0000015, (
        102,  # socketcall
        15, 94, 297,  # chmod fchmod fchmodat
        181, 95, 16, 289,  # chown fchown lchown fchownat
        209, 210, 211, 218, 219, 220,  # as above
        30, 251, 290, 304,  # utime utimes futimesat utimensat
        128, 353, 361,  # init_module finit_module bpf
    ), 326, 328, 54, 325, _WRITES_ON_POWER),
}  # fmt: skip
# The newer ones have the same numbers everywhere:
# io_uring_setup, fchmodat2, setxattrat, removexattrat and file_setattr.
_REFUSED_EVERYWHERE = (425, 452, 463, 466, 469)
# AF_UNIX, SOCK_STREAM, and what may come with that.
_LOCAL, _STREAM, _KIND = 1, 1, 0xF
_X32 = 0x40000000

# The requests of ioctl(2) that change attributes of files have one of these types (linux/fs.h,
# linux/btrfs.h).  Of those with them that write, programs need but a few, without the direction:
# FS_IOC_FIEMAP, which reads, too, and FICLONE and FICLONERANGE, which write content.
_TYPE = 0xFF00
_OF_FILES = tuple(ord(each) << 8 for each in "fXv\x94")
_FIEMAP, _CLONES = 0xC020660B, (0x00049409, 0x0020940D)

_LOAD, _EQUAL, _AT_LEAST, _AND, _RETURN = 0x20, 0x15, 0x35, 0x54, 0x06
# Where a filter finds the call, of which architecture it is, and its first two arguments (struct
# seccomp_data; all of these machines are little-endian).
_CALL, _ARCHITECTURE, _FIRST, _SECOND = 0, 4, 16, 24
_ALLOW, _REFUSE = 0x7FFF0000, 0x00050001  # SECCOMP_RET_ERRNO, and EPERM

# What to do, where to go on if so and if not ("" is the next one), and with which number.
_Instruction: TypeAlias = tuple[int, str, str, int]


def filter_for(machine: str, *, listens: bool) -> bytes | None:
    """Return the filter for MACHINE, as uname(2) calls it; None if its calls are not known.

    One that LISTENS makes sockets of its own, and reaches no other one's.
    """
    known = _MACHINES.get(machine)
    if known is None:
        return None
    refused = (*known.refused, *_REFUSED_EVERYWHERE, *([known.connect] if listens else ()))
    needed = (_FIEMAP, *(known.writes | each for each in _CLONES))
    return _assembled([
        (_LOAD, "", "", _ARCHITECTURE),
        (_EQUAL, "", "refuse", known.architecture),
        (_LOAD, "", "", _CALL),
        (_AT_LEAST, "refuse", "", _X32),
        *((_EQUAL, "refuse", "", number) for number in refused),
        (_EQUAL, "ioctl", "", known.ioctl),
        (_EQUAL, "prlimit", "", known.prlimit),
        (_EQUAL, "socket" if listens else "refuse", "allow", known.socket),
        "socket",
        (_LOAD, "", "", _FIRST),
        (_EQUAL, "", "refuse", _LOCAL),
        (_LOAD, "", "", _SECOND),
        (_AND, "", "", _KIND),
        (_EQUAL, "allow", "refuse", _STREAM),
        "prlimit",
        (_LOAD, "", "", _FIRST),
        # Of who calls; Landlock lets it at any process of the same user.
        (_EQUAL, "allow", "refuse", 0),
        "ioctl",
        (_LOAD, "", "", _SECOND),
        *((_EQUAL, "allow", "", request) for request in needed),
        (_AND, "", "", _TYPE),
        *((_EQUAL, "of files", "", each) for each in _OF_FILES[1:]),
        (_EQUAL, "of files", "allow", _OF_FILES[0]),
        "of files",
        (_LOAD, "", "", _SECOND),
        (_AND, "", "", known.writes),
        (_EQUAL, "allow", "refuse", 0),
        "allow",
        (_RETURN, "", "", _ALLOW),
        "refuse",
        (_RETURN, "", "", _REFUSE),
    ])  # fmt: skip


def _assembled(code: Sequence[_Instruction | str]) -> bytes:
    """Return CODE for the kernel; the names in it stand before what is jumped to."""
    places: dict[str, int] = {}
    lines: list[_Instruction] = []
    for each in code:
        if isinstance(each, str):
            places[each] = len(lines)
        else:
            lines.append(each)

    def jump(here: int, there: str) -> int:
        return places[there] - here - 1 if there else 0

    return b"".join(
        struct.pack("HBBI", do, jump(here, so), jump(here, otherwise), value)
        for here, (do, so, otherwise, value) in enumerate(lines)
    )

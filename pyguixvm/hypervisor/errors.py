# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's errors as sentences with a way out."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.line import LineLostError
from pyguixvm.hypervisor.time_limits import SilenceError

_START_LIBVIRTD = (
    "start it: 'herd start libvirtd' on Guix System, 'systemctl start libvirtd' elsewhere"
)
_JOIN_GROUP = (
    "add yourself to the group 'libvirt' and log in again, or use -c qemu:///session for "
    "machines of your own"
)

_TOO_OLD = (
    "libvirt 9.0 or newer is wanted there, and its QEMU driver: 'virsh -c URI version' tells "
    "which it is"
)

_HINTS = {
    libvirt.VIR_ERR_NO_SUPPORT: _TOO_OLD,
    libvirt.VIR_ERR_AUTH_FAILED: _JOIN_GROUP,
    libvirt.VIR_ERR_AUTH_CANCELLED: _JOIN_GROUP,
    libvirt.VIR_ERR_AUTH_UNAVAILABLE: _JOIN_GROUP,
    libvirt.VIR_ERR_NO_DOMAIN: "'pyguixvm list' shows the machines that there are",
    libvirt.VIR_ERR_INVALID_CONN: "the connection was lost; run the command again",
    libvirt.VIR_ERR_OPERATION_TIMEOUT: "another request holds the domain; try again",
}

_SYSTEM_HINTS = {
    errno.ENOENT: _START_LIBVIRTD,
    errno.ECONNREFUSED: _START_LIBVIRTD,
    errno.EACCES: _JOIN_GROUP,
    errno.ENOSPC: "free some space in the pool's file system",
}

# libvirt and QEMU pass these on as text only.
_PHRASES = (
    (
        "Permission denied",
        "QEMU's user must be able to enter each directory above that file and to read it",
    ),
    ("No space left on device", "free some space in the pool's file system"),
    (
        "satisfying virtiofsd",
        'install virtiofsd on the hypervisor, or declare the mount-point with (driver "9p")',
    ),
    ("unknown procedure", _TOO_OLD),
    ("unsupported flags", _TOO_OLD),
    ("ssh", "see whether 'ssh HOST virsh list' works for the host in the URI"),
)


@contextmanager
def explained(doing: str) -> Iterator[None]:
    """Turn a libvirt error of the body into a `HypervisorError`: cannot DOING, and why.

    A request of libvirt's that was not answered is called what it was for, too.
    """
    try:
        yield
    except libvirt.libvirtError as error:
        raise explain(error, doing) from error
    except LineLostError as error:
        raise error.when(doing) from error
    except SilenceError as error:
        raise SilenceError(doing, error.seconds) from error


def explain(error: libvirt.libvirtError, doing: str) -> HypervisorError:
    """Return ERROR, which came up when DOING, as one of ours."""
    reason = (error.get_error_message() or str(error)).strip()
    return HypervisorError(f"cannot {doing}: {reason}", hint=_hint(error, reason))


def _hint(error: libvirt.libvirtError, reason: str) -> str | None:
    code = error.get_error_code()
    if code == libvirt.VIR_ERR_SYSTEM_ERROR:
        # virReportSystemError keeps errno here.
        known = _SYSTEM_HINTS.get(error.get_int1())
        if known is not None:
            return known
    if code in _HINTS:
        return _HINTS[code]
    return next((hint for phrase, hint in _PHRASES if phrase in reason), None)


def is_code(error: libvirt.libvirtError, *codes: int) -> bool:
    """Whether ERROR has one of the CODES, libvirt's VIR_ERR_… constants."""
    return error.get_error_code() in codes

# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a libvirtd at a socket of this machine sees the files that we see.

In a container that got the host's socket, it does not: what stands on a file of the store would
not start there, and a volume that is not to be seen here is not gone.  Then it counts as
another machine's, to which all goes by libvirt's own streams.
"""

from __future__ import annotations

import errno
import os
import socket
import struct
from contextlib import suppress
from functools import cache
from pathlib import Path
from urllib.parse import urlsplit

_DIRECTORY = Path("/run/libvirt")
_SOCKETS = ("virtqemud-sock", "libvirt-sock")
# Where store items and volumes are.
_PLACES = ("/", "/gnu/store", "/var/lib/libvirt/images")
_SECONDS = 2.0


def sees_our_files(uri: str) -> bool:
    """Whether the daemon behind URI, which names no host, sees our files, as far as is known.

    Who may not look at it, not being root, takes it for granted.
    """
    if urlsplit(uri).path != "/system":
        return True  # started by whoever uses it
    try:
        return _first_sees_our_files(_DIRECTORY)
    except OSError:
        return True  # none is there to be seen


@cache
def _first_sees_our_files(directory: Path) -> bool:
    """Whether the first daemon that answers at _SOCKETS in DIRECTORY sees our files.

    Where another program listens on behalf of it, that is looked at.  Raises OSError if none
    answers.

    It is asked once: a daemon notes each connection that says nothing as an error, and one that
    is not used would be started by asking.
    """
    for name in _SOCKETS:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(str(directory / name))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            return _sees_our_files(struct.unpack("3i", credentials)[0])
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), str(directory))


def _sees_our_files(process: int) -> bool:
    """Whether PROCESS, which is 0 if it is in no namespace of ours, sees our files."""
    if process == 0:
        return False
    return all(_is_same(Path(f"/proc/{process}/root"), place) for place in _PLACES)


def _is_same(root: Path, place: str) -> bool:
    """Whether PLACE below ROOT, how another process sees it, is what it is here."""
    try:
        theirs = (root / place.lstrip("/")).stat()
    except FileNotFoundError:
        return not root.is_dir() or not Path(place).exists()
    except OSError:
        return True  # not for us to see
    try:
        return os.path.samestat(theirs, Path(place).stat())
    except OSError:
        return False

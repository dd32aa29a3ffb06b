# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a libvirtd at a socket of this machine sees the files that we see.

In a container that got the host's socket, it does not: what stands on a file of the store would
not start there, and a volume that is not to be seen here is not gone.  Then it counts as
another machine's, to which all goes by libvirt's own streams.
"""

from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable
from contextlib import suppress
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
    return all(map(_sees_our_files, _daemons(_DIRECTORY / name for name in _SOCKETS)))


def _daemons(sockets: Iterable[Path]) -> Iterable[int]:
    """Yield the process behind each of SOCKETS that answers: 0 if that is in no namespace of ours.

    Where another program listens on behalf of it, that is the one.
    """
    for path in sockets:
        with suppress(OSError), socket.socket(socket.AF_UNIX) as connection:
            connection.settimeout(_SECONDS)
            connection.connect(str(path))
            credentials = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
            yield struct.unpack("3i", credentials)[0]


def _sees_our_files(process: int) -> bool:
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

# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to hypervisors."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from urllib.parse import parse_qs, urlsplit

import libvirt

from pyguixvm.hypervisor.failure import explained
from pyguixvm.xml.capabilities import HostCapabilities, read_capabilities

# A hypervisor that is silent for three times five seconds is given up.
_KEEPALIVE_SECONDS = 5
_KEEPALIVE_COUNT = 3


@dataclass(frozen=True)
class Connection:
    """An open connection to the hypervisor at URI; LOCAL if that is this machine.

    HANDLE is libvirt's own object, for this package only.
    """

    uri: str
    local: bool
    handle: libvirt.virConnect


@contextmanager
def connect(uri: str | None = None) -> Iterator[Connection]:
    """Connect to the hypervisor at URI, and disconnect at the end.

    Without URI, libvirt chooses: $LIBVIRT_DEFAULT_URI, its configuration
    file, then what it finds (https://libvirt.org/uri.html).  Raises
    `HypervisorError` when it cannot be reached.
    """
    _EVENT_LOOP.start()
    target = f"hypervisor at {uri}" if uri else "default hypervisor"
    with explained(f"connect to the {target}"):
        handle = libvirt.open(uri or None)
    try:
        with explained(f"talk to the {target}"):
            with suppress(libvirt.libvirtError):  # drivers inside this process have none
                handle.setKeepAlive(_KEEPALIVE_SECONDS, _KEEPALIVE_COUNT)
            actual = handle.getURI()
        yield Connection(uri=actual, local=is_local(uri or actual), handle=handle)
    finally:
        with suppress(libvirt.libvirtError):
            handle.close()


def is_local(uri: str) -> bool:
    """Whether URI leads to this very machine, whose files are those that we see.

    It names no host and no socket: a socket may be the end of a tunnel.
    """
    parts = urlsplit(uri)
    _, _, transport = parts.scheme.partition("+")
    return (
        not parts.netloc
        and transport in ("", "unix")
        and not {"socket", "proxy"} & parse_qs(parts.query).keys()
    )


def capabilities(connection: Connection) -> HostCapabilities:
    """Return what the hypervisor's host offers to guests."""
    with explained("read the hypervisor's capabilities"):
        return read_capabilities(connection.handle.getCapabilities())


class _EventLoop:
    """libvirt's event loop in a thread: keepalive and console streams need one.

    It has to be there before the first connection, and only once.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the loop unless it runs."""
        with self._lock:
            if self._thread is not None:
                return
            # libvirt would print each error to standard error, beside raising it.
            libvirt.registerErrorHandler(lambda _context, _error: None, None)
            libvirt.virEventRegisterDefaultImpl()
            self._thread = threading.Thread(target=self._run, name="libvirt events", daemon=True)
            self._thread.start()

    @staticmethod
    def _run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


_EVENT_LOOP = _EventLoop()

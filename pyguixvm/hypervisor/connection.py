# SPDX-License-Identifier: GPL-3.0-or-later
"""Connections to hypervisors."""

from __future__ import annotations

import os
import pwd
import threading
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from urllib.parse import parse_qs, urlsplit

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor import let_go
from pyguixvm.hypervisor.at_once import begun
from pyguixvm.hypervisor.bounded import bounded, close, stay
from pyguixvm.hypervisor.domain_events import Events
from pyguixvm.hypervisor.errors import explained
from pyguixvm.hypervisor.once import Once
from pyguixvm.hypervisor.request_kinds import PATIENCE
from pyguixvm.hypervisor.resolved import Resolved
from pyguixvm.hypervisor.same_files import sees_our_files
from pyguixvm.hypervisor.same_host import SameHost
from pyguixvm.hypervisor.time_limits import within
from pyguixvm.hypervisor.unreachable import unreachable
from pyguixvm.hypervisor.uri import (
    is_local,
    may_ask,
    unasked,
    without_read_only,
    without_unasked,
)
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.xml.capabilities import HostCapabilities, read_capabilities, read_host_uuid

# How long (seconds) connecting may take, where a person may be asked for a password, and
# taking leave.
_OPEN_SECONDS = 30.0
_ASKING_SECONDS = 120.0
_CLOSE_SECONDS = 2.0


@dataclass(frozen=True)
class Connection:
    """An open connection to the hypervisor at URI; LOCAL if that is this machine.

    Of an alias (https://libvirt.org/uri.html), URI is what it stands for.  READ_ONLY: it may
    look, and nothing else, which takes no rights at a local libvirtd.  VERIFY: all that is sent
    over it is compared with what arrived.  PATIENCE is how long (seconds) each request has that
    needs neither disks nor guests.
    HANDLE is libvirt's own object, EVENTS what it tells, RESOLVED what it was asked for by
    name, OFFERED what its host has for guests, as XML, and WHICH hypervisor it leads to, for
    this package only.
    """

    uri: str
    local: bool
    handle: libvirt.virConnect
    events: Events
    resolved: Resolved
    offered: Once[str]
    which: Once[Hypervisor]
    read_only: bool = False
    verify: bool = False
    patience: float = PATIENCE


@contextmanager
def connect(
    uri: str | None = None,
    seconds: float | None = None,
    patience: float = PATIENCE,
    *,
    verify: bool = False,
    once: bool = False,
    asking: bool = True,
) -> Iterator[Connection]:
    """Connect to the hypervisor at URI, and disconnect at the end.

    Without URI, libvirt chooses: $LIBVIRT_DEFAULT_URI, its configuration
    file, then what it finds (https://libvirt.org/uri.html).  One that ends in ``?ro`` (or
    ``&ro``) is connected to for looking only.  Raises
    `HypervisorError` when it cannot be reached, or not within SECONDS.  Each request
    over it has PATIENCE seconds; minutes, if it depends on disks or guests.  VERIFY is as for
    a `Connection`.  If it is cut, there is another one for the next request, unless this is for
    ONCE: nobody is asked for a password again, nor at first unless ASKING.
    """
    _EVENT_LOOP.start()
    target = f"hypervisor at {uri}" if uri else "default hypervisor"
    if seconds is None:
        seconds = _ASKING_SECONDS if may_ask(uri) else _OPEN_SECONDS
    doing = f"connect to the {target}"
    try:
        connection = within(
            seconds, doing, lambda: _opened(uri, patience, verify, once, asking), unwanted=_close
        )
    except libvirt.libvirtError as error:
        raise unreachable(error, uri or os.environ.get("LIBVIRT_DEFAULT_URI"), doing) from error
    try:
        yield connection
    finally:
        # One that hangs closes in its own time: the thread keeps it.
        with suppress(HypervisorError):
            within(_CLOSE_SECONDS, "disconnect", lambda: _close(connection))


def _opened(uri: str | None, patience: float, verify: bool, once: bool, asking: bool) -> Connection:
    uri, read_only = without_read_only(uri or "")
    opening = libvirt.openReadOnly if read_only else libvirt.open
    handle = opening((uri if asking else unasked(uri)) or None)
    # Not what was asked for: that may be an alias.
    actual = handle.getURI() if asking else without_unasked(handle.getURI())
    local = _is_here(actual)
    host = SameHost(actual, None if local else _host_name(handle))

    def again() -> libvirt.virConnect:
        found = opening(unasked(actual))
        try:
            host.require(found)
        except BaseException:
            found.close()
            raise
        return found

    limited = bounded(handle, patience, None if once else again)
    offered = Once(limited.getCapabilities)
    host.capabilities = offered.known
    return Connection(
        actual,
        local,
        limited,
        Events(limited),
        Resolved(limited),
        offered,
        Once(partial(_which, actual, limited, offered, far=not local)),
        read_only,
        verify,
        patience,
    )


def _host_name(handle: libvirt.virConnect) -> str | None:
    """Return what the host of HANDLE calls itself; None if it does not say."""
    with suppress(libvirt.libvirtError):
        return str(handle.getHostname())
    return None


def anew(connection: Connection, *, once: bool = False) -> AbstractContextManager[Connection]:
    """Connect to where CONNECTION leads in the way that it does, and disconnect at the end.

    Nobody is asked for a password again.  ONCE is as for `connect`.  Raises HypervisorError,
    at the latest when its patience is at an end.
    """
    uri = unasked(connection.uri)
    if connection.read_only:
        uri += f"{'&' if '?' in uri else '?'}ro"
    patience = connection.patience
    return connect(uri, patience, patience, verify=connection.verify, once=once)


def _close(connection: Connection) -> None:
    # One that was cut is not made again to be closed.
    stay(connection.handle)
    connection.events.end(far=not connection.local)
    with suppress(libvirt.libvirtError):
        close(connection.handle)


def _is_here(uri: str) -> bool:
    """Whether URI leads to this very machine, whose files are those that we see."""
    return is_local(uri) and sees_our_files(uri)


def identity(connection: Connection) -> Hypervisor:
    """Return which hypervisor CONNECTION leads to, as it says itself."""
    with explained(f"ask the hypervisor at {connection.uri} which one it is"):
        return connection.which.answer()


def begin_identity(connection: Connection) -> None:
    """Have the answer of `identity_from_here` sought while something else is done."""
    if not connection.local:
        connection.which.begin()


def _which(uri: str, handle: libvirt.virConnect, offered: Once[str], *, far: bool) -> Hypervisor:
    """Ask HANDLE, which is connected to URI and has OFFERED for guests, which hypervisor it is."""
    instance, owner = _instance(uri)
    name, driver = (begun(ask, far=far) for ask in (handle.getHostname, handle.getType))
    return Hypervisor(
        host_uuid=read_host_uuid(offered.answer()),
        host_name=name(),
        driver=driver(),
        instance=instance,
        owner=owner,
    )


def identity_from_here(connection: Connection) -> Hypervisor:
    """Return which hypervisor CONNECTION leads to, for what is kept on this machine only.

    That this is the machine need not be asked, whatever libvirt takes for its UUID today.
    """
    if not connection.local:
        return identity(connection)
    instance, owner = _instance(connection.uri)
    driver, _, _ = urlsplit(connection.uri).scheme.partition("+")
    return Hypervisor(None, "", driver, instance, owner)


def _instance(uri: str) -> tuple[str, str | None]:
    """Return the path that tells the hypervisors of one host apart, and whose that is."""
    path = urlsplit(uri).path.rstrip("/")
    owner = _session_owner(uri) if path == "/session" else None
    # A driver that runs as root takes both paths for itself.
    return ("/system", None) if owner == "root" else (path, owner)


def _session_owner(uri: str) -> str:
    """Return the name of the user whose session URI leads to: ours, unless it says another."""
    parts = urlsplit(uri)
    if parts.username:
        return parts.username
    uid = os.geteuid()
    for socket in parse_qs(parts.query).get("socket", ()):
        with suppress(OSError):
            uid = Path(socket).stat().st_uid
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:  # a user without a name
        return str(uid)


def capabilities(connection: Connection) -> HostCapabilities:
    """Return what the hypervisor's host offers to guests."""
    with explained("read the hypervisor's capabilities"):
        return read_capabilities(connection.offered.answer())


def begin_capabilities(connection: Connection) -> None:
    """Have the answer of `capabilities` sought while something else is done."""
    connection.offered.begin()


class _EventLoop:
    """libvirt's event loop in a thread: events and console streams need one.

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
            let_go.start()
            self._thread = threading.Thread(target=self._run, name="libvirt events", daemon=True)
            self._thread.start()

    @staticmethod
    def _run() -> None:
        while True:
            libvirt.virEventRunDefaultImpl()


_EVENT_LOOP = _EventLoop()

# SPDX-License-Identifier: GPL-3.0-or-later
"""Guests that run are moved by libvirt, to another one of its daemons, with what they write to."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any, Protocol
from urllib.parse import urlsplit

import libvirt
import msgspec

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Domain
from pyguixvm.hypervisor.errors import explain, explained, is_code
from pyguixvm.xml.capabilities import host_cpu

# How long (seconds) libvirt is waited for to give up what somebody interrupted.
_END_SECONDS = 60.0
_POLL_SECONDS = 0.2
# Between two looks how far it is (seconds).
_LOOK_SECONDS = 0.5
# As the error is called where the one libvirtd does not get to the other.
_NO_WAY = "failed to connect to remote libvirt URI"
# As it is where one of the hosts itself has no certificates, or no QEMU that takes them: somebody
# on the line between them cannot bring that about.
_NO_CERTIFICATES = re.compile(
    "Unable to access credentials|TLS directory not configured|TLS migration is not supported"
)


_BY_WHICH_WAY = (
    "It runs where it was. The two hosts need different names, and the one has to get to the other "
    "by TCP, ports 49152 to 49215: --migrate-uri tcp://ADDRESS tells by which address. Shut off, "
    "it goes without."
)
_NOBODY_HEARD = (
    "How that ends is not known: the hosts may go on with it. See where it runs with 'virsh list' "
    "at both; run the command again when it is over."
)


class Destination(msgspec.Struct, frozen=True):
    """What a guest is there: as LIVE at first, and as DEFINED from its next start on, as XML."""

    live: str
    defined: str


class Line(msgspec.Struct, frozen=True):
    """How a guest gets from host to host.

    BY is the URI by which QEMU there is reached from QEMU here, ``tcp://10.0.0.2``; None leaves
    it to the name that the host there has of itself.  ENCRYPTED: it goes by TLS, or not at all;
    else by TLS where both hosts have certificates for that.
    """

    by: str | None = None
    encrypted: bool = False


class Listener(Protocol):
    """Hears how a guest is moved."""

    def progress(self, done: int, total: int) -> None:
        """DONE of TOTAL bytes of memory and disks are there; both may change at any time."""

    def in_the_clear(self, why: str) -> None:
        """It goes unencrypted, for WHY."""


def live_xml(domain: Domain) -> str:
    """Return the XML that DOMAIN runs with, as another libvirt takes it, with what is secret."""
    return _xml(domain, 0)


def defined_xml(domain: Domain) -> str:
    """Return the XML that DOMAIN starts from, as `live_xml` does."""
    return _xml(domain, libvirt.VIR_DOMAIN_XML_INACTIVE)


def _xml(domain: Domain, flags: int) -> str:
    flags |= libvirt.VIR_DOMAIN_XML_MIGRATABLE | libvirt.VIR_DOMAIN_XML_SECURE
    with explained(f"read the definition of domain '{domain}'"):
        xml: str = domain.handle.XMLDesc(flags)
    return xml


def runs_on(source: Connection, target: Connection) -> bool:
    """Whether the processor of TARGET has all that of SOURCE has, as far as libvirt can tell."""
    with explained("compare the processors of both hosts"):
        cpu = host_cpu(source.offered.answer())
        try:
            found = target.handle.compareCPU(cpu, 0) if cpu is not None else None
        except libvirt.libvirtError as error:
            if is_code(error, libvirt.VIR_ERR_NO_SUPPORT, libvirt.VIR_ERR_CONFIG_UNSUPPORTED):
                return True
            raise
        return bool(found != libvirt.VIR_CPU_COMPARE_INCOMPATIBLE)


def migrate(
    domain: Domain, target: Connection, to: Destination, line: Line, listener: Listener
) -> None:
    """Have DOMAIN run at TARGET, and be defined there; it is not where it was any more then.

    What it writes to is copied, into files that are there; what they stand on is not.  The one
    libvirtd talks to the other itself where it gets there by the same URI as we do: then
    nothing depends on us.  LISTENER hears how it goes.  Raises HypervisorError, which says
    whether it runs where it was then.
    """
    named: dict[str, object] = {
        libvirt.VIR_MIGRATE_PARAM_DEST_XML: to.live,
        libvirt.VIR_MIGRATE_PARAM_PERSIST_XML: to.defined,
    }
    if line.by is not None:
        named[libvirt.VIR_MIGRATE_PARAM_URI] = line.by
    flags = (
        libvirt.VIR_MIGRATE_LIVE
        | libvirt.VIR_MIGRATE_PERSIST_DEST
        | libvirt.VIR_MIGRATE_UNDEFINE_SOURCE
        | libvirt.VIR_MIGRATE_NON_SHARED_INC
        | libvirt.VIR_MIGRATE_ABORT_ON_ERROR
    )
    with _ended_with_us(domain), _watched(domain, listener.progress):
        try:
            _move(domain, target, named, flags | libvirt.VIR_MIGRATE_TLS)
        except _NoCertificatesError as error:
            if line.encrypted:
                raise _unencrypted(domain, error) from error
            listener.in_the_clear(str(error))
            _move(domain, target, named, flags)


def _move(domain: Domain, target: Connection, named: dict[str, object], flags: int) -> None:
    handle: Any = domain.handle
    if _names_host(target.uri):
        peer = flags | libvirt.VIR_MIGRATE_PEER2PEER
        with suppress(_NoWayError):
            _moved(lambda: handle.migrateToURI3(target.uri, named, peer), domain)
            return
    _moved(lambda: handle.migrate3(target.handle, named, flags), domain)


def _names_host(uri: str) -> bool:
    """Whether URI names a host, without which one libvirtd does not get to another."""
    host = urlsplit(uri).hostname
    return host is not None and not host.startswith("localhost")


class _NoWayError(Exception):
    """The one libvirtd does not get to the other."""


class _NoCertificatesError(Exception):
    """One of the hosts has nothing to encrypt by."""


def _unencrypted(domain: Domain, error: Exception) -> HypervisorError:
    return HypervisorError(
        f"cannot migrate domain '{domain}' by TLS: {error}",
        hint="It runs where it was. Both hosts need certificates for QEMU, in /etc/pki/qemu, see "
        "https://libvirt.org/kbase/tlscerts.html. Without --tls, it goes in the clear.",
    )


def _moved(request: Callable[[], object], domain: Domain) -> None:
    try:
        request()
    except libvirt.libvirtError as error:
        if _NO_WAY in str(error):
            raise _NoWayError from error
        if lacking := _NO_CERTIFICATES.search(str(error)):
            raise _NoCertificatesError(str(error)[lacking.start() :].strip()) from error
        failed = explain(error, f"migrate domain '{domain}'")
        failed.hint = _BY_WHICH_WAY if _runs_on(domain) else _NOBODY_HEARD
        raise failed from error


def _runs_on(domain: Domain) -> bool:
    """Whether DOMAIN, which could not be moved, runs where it was, as far as can be told now.

    When the line to us is cut, the two libvirtds may go on with it without us.
    """
    with suppress(libvirt.libvirtError, HypervisorError):
        state, _reason = domain.handle.state()
        return state == libvirt.VIR_DOMAIN_RUNNING and not domain.handle.jobInfo()[0]
    return False


@contextmanager
def _watched(domain: Domain, tell: Callable[[int, int], None]) -> Iterator[None]:
    """TELL in the body how much of DOMAIN has moved, of how much (bytes)."""
    over = threading.Event()

    def look() -> None:
        while not over.wait(_LOOK_SECONDS):
            with suppress(libvirt.libvirtError, HypervisorError):
                found = domain.handle.jobStats()
                total = found.get(libvirt.VIR_DOMAIN_JOB_DATA_TOTAL, 0)
                if total:
                    tell(total - found.get(libvirt.VIR_DOMAIN_JOB_DATA_REMAINING, 0), total)

    thread = threading.Thread(target=look, name="migration", daemon=True)
    thread.start()
    try:
        yield
    finally:
        over.set()
        # What it says later would be about something else.
        thread.join()


@contextmanager
def _ended_with_us(domain: Domain) -> Iterator[None]:
    """Have libvirt give up the migration of DOMAIN, and end it, if the body is interrupted."""
    try:
        yield
    except HypervisorError:
        raise
    except BaseException:
        with suppress(libvirt.libvirtError):
            domain.handle.abortJob()
        # What was made for it at the other end may go only then.
        deadline = time.monotonic() + _END_SECONDS
        with suppress(libvirt.libvirtError):
            while time.monotonic() < deadline and domain.handle.jobInfo()[0]:
                time.sleep(_POLL_SECONDS)
        raise

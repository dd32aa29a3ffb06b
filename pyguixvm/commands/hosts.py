# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisors between which machines move."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import Connection, anew, connect, identity
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.hypervisor import Hypervisor
from pyguixvm.model.observation import Observation


@dataclass(frozen=True)
class Host:
    """A hypervisor that is connected to, WHICH one it is, and what was THERE at first."""

    connection: Connection
    which: Hypervisor
    there: Observation

    @property
    def uri(self) -> str:
        """The URI by which it is reached."""
        return self.connection.uri

    def reached_anew(self, opened: ExitStack) -> Host | None:
        """Return it by a connection of its own, until OPENED closes; None if there is none.

        Nobody is asked for a password again.
        """
        try:
            connection = opened.enter_context(anew(self.connection))
        except HypervisorError:
            return None
        return replace(self, connection=replace(connection, uri=self.uri))


@dataclass(frozen=True)
class Way:
    """Machine NAME goes from SOURCE to TARGET; None if it is at TARGET and left nothing behind."""

    name: str
    source: Host | None
    target: Host

    @contextmanager
    def apart(self) -> Iterator[Way | None]:
        """Yield it over connections of its own in the body; None if these cannot be had.

        Libvirtd takes up five requests of a connection at once, and one that moves a guest lasts.
        """
        with ExitStack() as opened:
            target = self.target.reached_anew(opened)
            source = self.source and self.source.reached_anew(opened)
            if target is None or (source is None and self.source is not None):
                yield None
            else:
                yield Way(self.name, source, target)


class Hosts:
    """Hypervisors that are connected to until OPENED closes, each once, whatever its URIs."""

    def __init__(self, opened: ExitStack, *, verify: bool) -> None:
        """Connect to nothing yet.  VERIFY is as for a `Connection`."""
        self._opened = opened
        self._verify = verify
        self._by_uri: dict[str | None, Host] = {}
        self.lost: dict[str, HypervisorError] = {}

    def try_to_reach(self, uri: str | None) -> None:
        """Connect to the hypervisor at URI; that it cannot be reached matters to whom wants it."""
        try:
            self.at(uri)
        except HypervisorError as error:
            self.lost[uri or "libvirt's default URI"] = error

    def at(self, uri: str | None) -> Host:
        """Return the hypervisor at URI.  Raises HypervisorError."""
        if uri not in self._by_uri:
            connection = self._opened.enter_context(connect(uri, verify=self._verify))
            which = identity(connection)
            same = next((host for host in self._by_uri.values() if host.which == which), None)
            self._by_uri[uri] = same or Host(connection, which, observe(connection, Depth.HOST))
        return self._by_uri[uri]

    def that_is(self, which: Hypervisor) -> Host | None:
        """Return the one that is WHICH: that is so whoever calls it by which URI."""
        return next((host for host in self._by_uri.values() if host.which == which), None)

    def with_arrivals(self, source: Host) -> dict[str, Host]:
        """Return where machines come to from SOURCE, by their names, whose way is not over."""
        return {
            name: host
            for host in self._by_uri.values()
            for name, domain in host.there.domains.items()
            if domain.metadata is not None
            and domain.metadata.arrival is not None
            and domain.metadata.arrival.source == source.which
        }

    def but(self, left_out: Host) -> list[Host]:
        """Return all of them, LEFT-OUT left out."""
        different = {host.which: host for host in self._by_uri.values()}
        return [host for which, host in different.items() if which != left_out.which]

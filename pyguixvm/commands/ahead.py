# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors elsewhere are connected to while what is declared is evaluated.

Over a slow line, and by ssh, that takes about as long.  Which they are is known from the last time,
and at first if it was given beforehand: those that a configuration names itself are not.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from functools import partial
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from pyguixvm.errors import PyguixvmError
from pyguixvm.hypervisor.uri import is_local, may_ask

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.hypervisor.connection import Connection

    # A connection, and what is to be closed when it is not needed any more.
    Opened: TypeAlias = tuple[Connection, ExitStack]


class Way(NamedTuple):
    """How a hypervisor is connected to, as for `connect`."""

    uri: str | None
    patience: float
    verify: bool


def opened(way: Way, *, asking: bool = False) -> Opened:
    """Connect by WAY; a person is asked for a password only if ASKING.  Raises HypervisorError."""
    from pyguixvm.hypervisor.connection import connect

    with ExitStack() as own:
        connection = own.enter_context(
            connect(way.uri, patience=way.patience, verify=way.verify, asking=asking)
        )
        return connection, own.pop_all()


class Ahead:
    """Connections to the hypervisors that were used last, by what they are asked for by."""

    def __init__(self, connect: Callable[[Way], Opened] = opened) -> None:
        """Know of none; they are made by CONNECT."""
        self._connect = connect
        self._last: dict[str | None, Way] = {}
        self._used: dict[str | None, Way] = {}
        self._begun: dict[str | None, Callable[[], Opened]] = {}

    def used(self, uri: str | None, connection: Connection) -> None:
        """Take note that CONNECTION was asked for by URI."""
        if not connection.local:
            self._used[uri] = Way(connection.uri, connection.patience, connection.verify)

    @contextmanager
    def connecting(self, uri: str | None, way: Way) -> Iterator[None]:
        """Connect again to those that were used last, at first BY WAY of URI; wait for nothing.

        Those are closed at the end of the body that nobody took there, as soon as they are there.
        """
        from pyguixvm.hypervisor.at_once import begun

        first = {uri: way} if way.uri and not is_local(way.uri) else {}
        self._last, self._used = self._used or self._last or first, {}
        for each, known in self._last.items():
            self._begun[each] = begun(partial(self._connect, known), far=True)
        try:
            yield
        finally:
            self._leave()

    def take(self, uri: str | None) -> Opened | None:
        """Return the connection to the hypervisor at URI as soon as it is there; None if none is.

        None, too, where a person may have to be asked for a password.  Raises HypervisorError.
        """
        answer = self._begun.get(uri)
        if answer is None:
            return None
        try:
            found = answer()
        except PyguixvmError:
            del self._begun[uri]
            if may_ask(self._last[uri].uri):
                return None
            raise
        del self._begun[uri]
        return found

    def _leave(self) -> None:
        left, self._begun = self._begun, {}
        for answer in left.values():
            threading.Thread(target=_close, args=(answer,), name="ahead", daemon=True).start()


def _close(answer: Callable[[], Opened]) -> None:
    with suppress(PyguixvmError):
        answer()[1].close()

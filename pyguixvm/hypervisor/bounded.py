# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's objects, whose requests end: after a while with a message, by Control-C soon.

Libvirt itself waits in C, without limit, and Python hears no signal meanwhile.  Its own
keepalive is not used: when it gives up a connection for which several threads wait, it
crashes (libvirt 9.0).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from typing import Any

import libvirt

from pyguixvm.hypervisor.let_go import keep, kept, let_go, replace
from pyguixvm.hypervisor.line import Line

# What an object knows of itself: libvirt asks nobody for that.
_KNOWN = frozenset({"UUIDString", "name", "usageID", "usageType"})
# How objects are found over another connection, by what they know of themselves.
_FOUND_AGAIN: Mapping[type, Callable[[Any, Any], object]] = {
    libvirt.virConnect: lambda connection, _: connection,
    libvirt.virDomain: lambda connection, one: connection.lookupByUUIDString(one.UUIDString()),
    libvirt.virNetwork: (
        lambda connection, one: connection.networkLookupByUUIDString(one.UUIDString())
    ),
    libvirt.virSecret: (
        lambda connection, one: connection.secretLookupByUUIDString(one.UUIDString())
    ),
    libvirt.virStoragePool: (
        lambda connection, one: connection.storagePoolLookupByUUIDString(one.UUIDString())
    ),
    libvirt.virStorageVol: lambda connection, one: connection.storageVolLookupByKey(one.key()),
}


class Bounded:
    """One of libvirt's objects, and all that it returns: each request over LINE ends.

    After LINE was cut, it stands for the same thing over the next connection; streams and
    snapshots do not, and fail.
    """

    def __init__(self, subject: object, line: Line, era: int) -> None:
        """Stand for SUBJECT, which is of the connection that LINE had in its ERA."""
        self._number = keep(subject)
        self._line = line
        self._era = era

    def __del__(self) -> None:
        """Let go of the subject."""
        let_go(self._number, last=self._line.closed)

    @property
    def _subject(self) -> Any:
        return kept(self._number)

    def __getattr__(self, name: str) -> Any:
        """Return the method NAME of the subject, bounded."""
        found = getattr(self._subject, name)
        if not callable(found):
            return found
        return found if name in _KNOWN else partial(self._asked, name)

    def _asked(self, name: str, /, *given: object, **named: object) -> object:
        def ask(subject: object, *given: object) -> object:
            return getattr(subject, name)(*given, **named)

        return self._call(name, ask, given)

    def _call(self, name: str, ask: Callable[..., object], given: Sequence[object]) -> object:
        """Return what ASK, which is the request NAME, returns for the subject and what is GIVEN."""
        subjects = [self, *given]
        others = {each._line for each in given if isinstance(each, Bounded)} - {self._line}

        def over(connection: libvirt.virConnect, era: int) -> object:
            with ExitStack() as uses:
                used = {line: uses.enter_context(line.used(name)) for line in others}
                used[self._line] = connection, era
                return ask(*(_over(each, used) for each in subjects))

        answer, era = self._line.answer(name, over, lasting=type(self._subject) in _FOUND_AGAIN)
        return self._bounded(answer, era)

    def _find_again(self, connection: libvirt.virConnect, era: int) -> None:
        replace(self._number, _FOUND_AGAIN[type(self._subject)](connection, self._subject))
        self._era = era

    def _bounded(self, found: object, era: int) -> object:
        if isinstance(found, list | tuple):
            return type(found)(self._bounded(each, era) for each in found)
        if type(found).__module__ == libvirt.__name__ and hasattr(found, "_o"):
            return Bounded(found, self._line, era)
        return found


def _over(given: object, used: Mapping[Line, tuple[libvirt.virConnect, int]]) -> object:
    """Return what GIVEN stands for over the connection, of an era, of its line that is USED.

    Raises libvirtError.
    """
    if not isinstance(given, Bounded):
        return given
    connection, era = used[given._line]
    if given._era != era and type(given._subject) in _FOUND_AGAIN:
        given._find_again(connection, era)
    return given._subject


def bounded(
    connection: libvirt.virConnect,
    seconds: float,
    open_again: Callable[[], libvirt.virConnect] | None = None,
) -> libvirt.virConnect:
    """Return CONNECTION, each of whose requests has SECONDS, and those that take long minutes.

    They raise SilenceError, and KeyboardInterrupt at latest a moment after it happens.  When it
    was cut, the next request goes over another one that OPEN_AGAIN returns, within SECONDS;
    one that was under way, too, if it changes nothing.
    """
    return Bounded(connection, Line(connection, seconds, open_again), 0)


def close(connection: libvirt.virConnect) -> None:
    """Close CONNECTION, at the latest when the last of its requests ends.  Raises libvirtError."""
    connection._line.close()


def era(connection: libvirt.virConnect) -> int:
    """Return which of its connections CONNECTION is by now: another one whenever it was cut.

    Raises HypervisorError if there is no other.
    """
    return int(connection._line.era())


def asked(connection: libvirt.virConnect, name: str, *given: object) -> tuple[Any, int]:
    """Return what the method NAME of CONNECTION returns for what is GIVEN, and over which `era`."""
    answer, over = connection._line.answer(name, lambda it, _: getattr(it, name)(*given))
    return answer, int(over)


def stay(connection: libvirt.virConnect) -> None:
    """Let CONNECTION be the last one: if it was cut, or is, its requests fail."""
    connection._line.stay()


def on_reopening(connection: libvirt.virConnect, tell: Callable[[], object]) -> None:
    """Have TELL called whenever CONNECTION was cut, and there is another one."""
    connection._line.reopened.append(tell)


@contextmanager
def reopening_told(connection: libvirt.virConnect, tell: Callable[[], object]) -> Iterator[None]:
    """Have TELL called as `on_reopening` does, in the body."""
    on_reopening(connection, tell)
    try:
        yield
    finally:
        connection._line.reopened.remove(tell)


def call(function: Callable[..., Any], subject: Any, *given: object) -> Any:
    """Return what FUNCTION, which is no method, returns for SUBJECT and what else is GIVEN."""
    return subject._call(function.__name__, function, given)

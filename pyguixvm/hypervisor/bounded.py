# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's objects, whose requests end: after a while with a message, by Control-C soon.

Libvirt itself waits in C, without limit, and Python hears no signal meanwhile.  Its own
keepalive is not used: when it gives up a connection for which several threads wait, it
crashes (libvirt 9.0).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from functools import partial
from typing import Any

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.time_limits import SilenceError, Threads, within
from pyguixvm.interruption import pause, taken

# What takes as long as disks, guests and QEMU's start take (seconds, as all of these), while
# other requests are answered.
_LONG = 900.0
_TAKING_LONG = frozenset({
    "attachDeviceFlags",
    "blockResize",
    "build",
    "create",
    "createWithFlags",
    "createXML",
    "delete",
    "destroy",
    "detachDeviceFlags",
    # Of a libvirtd that starts every QEMU to find out.
    "getCapabilities",
    "getDomainCapabilities",
    "reboot",
    "refresh",
    "resize",
    "shutdownFlags",
    "snapshotCreateXML",
    "undefineFlags",
    "updateDeviceFlags",
    "upload",
})  # fmt: skip
# What an object knows of itself: libvirt asks nobody for that.
_KNOWN = frozenset({"UUIDString", "name", "usageID", "usageType"})
# What takes as long as all that a guest writes to takes over a line.
_TAKING_LONGEST = frozenset({"migrate3", "migrateToURI3"})
_LONGEST = 7 * 24 * 3600.0
# Between two tries to connect again (seconds).
_POLL_SECONDS = 0.5
# What was begun is brought to its end if that takes no longer: it is known to be done.
_GRACE = 1.0


# What changes nothing, wherever a line was cut while it was asked: it is asked again.  It is
# called so, or one of these.
_LOOK = re.compile("(get|has|is|list|lookup)[A-Z]|.*LookupBy[A-Z]")
_LOOKS = frozenset({
    "DHCPLeases",
    "XMLDesc",
    "autostart",
    "blockInfo",
    "blockJobInfo",
    "info",
    "interfaceAddresses",
    "jobInfo",
    "jobStats",
    "memoryStats",
    "metadata",
    "path",
    "refresh",
    "state",
    "value",
    "vcpusFlags",
})  # fmt: skip
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

    def __init__(self, subject: object, line: _Line, era: int) -> None:
        """Stand for SUBJECT, which is of the connection that LINE had in its ERA."""
        self._subject = subject
        self._line = line
        self._era = era

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

        def over(connection: libvirt.virConnect, era: int) -> object:
            subjects = [self, *given]
            return ask(*(_over(each, connection, era) for each in subjects))

        answer, era = self._line.answer(name, over, lasting=type(self._subject) in _FOUND_AGAIN)
        return self._bounded(answer, era)

    def _bounded(self, found: object, era: int) -> object:
        if isinstance(found, list | tuple):
            return type(found)(self._bounded(each, era) for each in found)
        if type(found).__module__ == libvirt.__name__ and hasattr(found, "_o"):
            return Bounded(found, self._line, era)
        return found


def _over(given: object, connection: libvirt.virConnect, era: int) -> object:
    """Return what GIVEN stands for over CONNECTION, that of ERA.  Raises libvirtError."""
    if not isinstance(given, Bounded):
        return given
    if given._era != era and type(given._subject) in _FOUND_AGAIN:
        given._subject = _FOUND_AGAIN[type(given._subject)](connection, given._subject)
        given._era = era
    return given._subject


class _Line:
    """What the objects of one CONNECTION have in common: their requests take SECONDS or long.

    If it is cut, there is another one by OPEN, once more each time, unless that is None.
    """

    def __init__(
        self,
        connection: libvirt.virConnect,
        seconds: float,
        open_again: Callable[[], libvirt.virConnect] | None,
    ) -> None:
        self._connection = connection
        self._seconds = seconds
        self._open_again = open_again
        self._threads = Threads()
        self._era = 0
        self._silent = False
        self._opening = threading.Lock()
        self.reopened: list[Callable[[], object]] = []

    def answer(
        self,
        name: str,
        call: Callable[[libvirt.virConnect, int], object],
        *,
        lasting: bool = True,
    ) -> tuple[object, int]:
        """Return what CALL of the method NAME returns, or raise what it raises; and the era.

        It is called with the connection of that era.  LASTING: what it is about can be found
        again over the next one.  Raises SilenceError.
        """
        if lasting:
            self._reopen_if_cut()
        connection, era = self._connection, self._era
        try:
            return self._bounded(name, lambda: call(connection, era)), era
        except (libvirt.libvirtError, SilenceError) as error:
            # Whether what changes something was done, nobody knows.
            if not (lasting and _only_looks(name) and self._is_cut(error, era)):
                raise
            try:
                self._reopen_if_cut()
            except HypervisorError:
                raise error from None
            if self._era == era:  # there is no other
                raise
        connection, era = self._connection, self._era
        return self._bounded(name, lambda: call(connection, era)), era

    def era(self) -> int:
        """Return how often there was another connection.  Raises HypervisorError."""
        self._reopen_if_cut()
        return self._era

    def _bounded(self, name: str, call: Callable[[], object]) -> object:
        longest = name in _TAKING_LONGEST
        long = longest or name in _TAKING_LONG
        return within(
            _LONGEST if longest else _LONG if long else self._seconds,
            name,
            call,
            grace=_GRACE,
            threads=self._threads,
            patience=(self._seconds, self._look) if long else None,
        )

    def _is_cut(self, error: Exception, era: int) -> bool:
        """Whether ERROR came up since the connection of ERA was cut, or says nothing any more."""
        # Behind ssh, one that is closed counts as alive for a moment.
        if isinstance(error, SilenceError) or "socket is closed" in str(error):
            self._silent = self._silent or era == self._era
            return True
        return era != self._era or not self._is_alive()

    def _is_alive(self) -> bool:
        with suppress(libvirt.libvirtError):
            return not self._silent and bool(self._connection.isAlive())
        return False

    def _reopen_if_cut(self) -> None:
        """Have a connection that is not known to be cut.  Raises HypervisorError."""
        if self._open_again is None or self._is_alive():
            return
        with taken(self._opening):
            if self._open_again is None or self._is_alive():
                return
            self._connection = self._opened_again(self._open_again)
            self._era += 1
            self._silent = False
        for tell in self.reopened:
            tell()

    def _opened_again(self, open_again: Callable[[], libvirt.virConnect]) -> libvirt.virConnect:
        """Return another connection, or give up for good.  Raises HypervisorError."""
        deadline = time.monotonic() + self._seconds
        while True:
            left = max(deadline - time.monotonic(), _POLL_SECONDS)
            try:
                return within(left, "connect again", open_again, unwanted=_closed)
            except (libvirt.libvirtError, SilenceError) as error:
                if time.monotonic() + _POLL_SECONDS >= deadline:
                    # Those who clean up do not wait as long again, each of them.
                    self._open_again = None
                    raise HypervisorError(
                        f"the connection was lost, and there is no other: {error}",
                        hint="run the command again when the hypervisor can be reached",
                    ) from error
                pause(_POLL_SECONDS)

    def close(self) -> None:
        """Close the connection, or leave that to the end of requests that nobody waits for.

        Libvirt would free what they use.  Its own object closes it when the last is gone
        that refers to it.
        """
        self._open_again = None
        if self._threads.end():
            self._connection.close()

    def _look(self) -> None:
        """See whether any other request is answered.  Raises SilenceError."""
        with suppress(libvirt.libvirtError):
            self._bounded("getHostname", self._connection.getHostname)


def _only_looks(name: str) -> bool:
    return name in _LOOKS or _LOOK.match(name) is not None


def _closed(connection: libvirt.virConnect) -> None:
    with suppress(libvirt.libvirtError):
        connection.close()


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
    return Bounded(connection, _Line(connection, seconds, open_again), 0)


def close(connection: libvirt.virConnect) -> None:
    """Close CONNECTION, at the latest when the last of its requests ends.  Raises libvirtError."""
    connection._line.close()


def era(connection: libvirt.virConnect) -> int:
    """Return which of its connections CONNECTION is by now: another one whenever it was cut.

    Raises HypervisorError if there is no other.
    """
    return int(connection._line.era())


def on_reopening(connection: libvirt.virConnect, tell: Callable[[], object]) -> None:
    """Have TELL called whenever CONNECTION was cut, and there is another one."""
    connection._line.reopened.append(tell)


def call(function: Callable[..., Any], subject: Any, *given: object) -> Any:
    """Return what FUNCTION, which is no method, returns for SUBJECT and what else is GIVEN."""
    return subject._call(function.__name__, function, given)

# SPDX-License-Identifier: GPL-3.0-or-later
"""libvirt's objects, whose requests end: after a while with a message, by Control-C soon.

Libvirt itself waits in C, without limit, and Python hears no signal meanwhile.  Its own
keepalive is not used: when it gives up a connection for which several threads wait, it
crashes (libvirt 9.0).
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from functools import partial
from typing import Any

import libvirt

from pyguixvm.hypervisor.time_limits import Threads, within

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
# What was begun is brought to its end if that takes no longer: it is known to be done.
_GRACE = 1.0


class Bounded:
    """One of libvirt's objects, and all that it returns: each request over LINE ends."""

    def __init__(self, subject: object, line: _Line) -> None:
        """Stand for SUBJECT."""
        self._subject = subject
        self._line = line

    def __getattr__(self, name: str) -> Any:
        """Return the method NAME of the subject, bounded."""
        found = getattr(self._subject, name)
        return partial(self._call, name, found) if callable(found) else found

    def _call(
        self, name: str, call: Callable[..., object], /, *given: object, **named: object
    ) -> object:
        if name in _KNOWN:
            return call(*given, **named)
        raw = [_raw(each) for each in given]
        return self._bounded(self._line.answer(name, lambda: call(*raw, **named)))

    def _bounded(self, found: object) -> object:
        if isinstance(found, list | tuple):
            return type(found)(self._bounded(each) for each in found)
        if type(found).__module__ == libvirt.__name__ and hasattr(found, "_o"):
            return Bounded(found, self._line)
        return found


class _Line:
    """What the objects of one CONNECTION have in common: their requests take SECONDS or long."""

    def __init__(self, connection: libvirt.virConnect, seconds: float) -> None:
        self._connection = connection
        self._seconds = seconds
        self._threads = Threads()

    def answer(self, name: str, call: Callable[[], object]) -> object:
        """Return what CALL of the method NAME returns, or raise what it raises.

        Raises SilenceError.
        """
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

    def close(self) -> None:
        """Close the connection, or leave that to the end of requests that nobody waits for.

        Libvirt would free what they use.  Its own object closes it when the last is gone
        that refers to it.
        """
        if self._threads.end():
            self._connection.close()

    def _look(self) -> None:
        """See whether any other request is answered.  Raises SilenceError."""
        with suppress(libvirt.libvirtError):
            self.answer("getHostname", self._connection.getHostname)


def bounded(connection: libvirt.virConnect, seconds: float) -> libvirt.virConnect:
    """Return CONNECTION, each of whose requests has SECONDS, and those that take long minutes.

    They raise SilenceError, and KeyboardInterrupt at latest a moment after it happens.
    """
    return Bounded(connection, _Line(connection, seconds))


def close(connection: libvirt.virConnect) -> None:
    """Close CONNECTION, at the latest when the last of its requests ends.  Raises libvirtError."""
    connection._line.close()


def call(function: Callable[..., Any], subject: Any, *given: object) -> Any:
    """Return what FUNCTION, which is no method, returns for SUBJECT and what else is GIVEN."""
    return subject._call(function.__name__, partial(function, subject._subject), *given)


def _raw(given: object) -> object:
    return given._subject if isinstance(given, Bounded) else given

# SPDX-License-Identifier: GPL-3.0-or-later
"""What a guest writes to its serial console.

It is complete only if the console is opened before the guest runs, and the line to its
hypervisor is never cut: what a guest writes meanwhile, nobody keeps.
"""

from __future__ import annotations

import codecs
import re
import threading
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt

from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.bounded import reopening_told
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import Which, our_domain
from pyguixvm.hypervisor.errors import explained

_KEPT_LINES = 5000
_RECEIVE = 64 * 1024
# A guest may write on without end, and without a line break (characters).
_LONGEST_LINE = 4096

# ECMA-48 control sequences, operating system commands, and the shorter escapes.
_ESCAPES = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)|\x1b[ -/]*[0-~]")
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f]")


class ConsoleText:
    """The last lines of a stream of bytes, without terminal control; safe between threads."""

    def __init__(self, kept: int = _KEPT_LINES) -> None:
        """Keep the last KEPT lines."""
        self._lock = threading.Lock()
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._lines: deque[str] = deque(maxlen=kept)
        self._pending = ""
        # Whether something may be missing in between.
        self.interrupted = False

    def feed(self, data: bytes) -> None:
        """Take DATA, which may end anywhere in a line or a character."""
        with self._lock:
            self._pending += self._decoder.decode(data)
            *complete, self._pending = self._pending.split("\n")
            while len(self._pending) > _LONGEST_LINE:
                complete.append(self._pending[:_LONGEST_LINE])
                self._pending = self._pending[_LONGEST_LINE:]
            for line in complete:
                self._lines.extend(part[:_LONGEST_LINE] for part in _plain(line))

    def forget(self) -> None:
        """Have no lines: what was written so far is another one's."""
        with self._lock:
            self._lines.clear()
            self._pending = ""
            self.interrupted = False

    def lines(self) -> tuple[str, ...]:
        """Return the lines so far; the last may be unfinished, as a prompt is."""
        with self._lock:
            return (*self._lines, *(line for line in _plain(self._pending) if line))


def _plain(line: str) -> list[str]:
    """LINE as it would be seen; a carriage return within it begins another line."""
    visible = _ESCAPES.sub("", line).strip("\r")
    return [_CONTROLS.sub("", part) for part in re.split("\r+", visible)]


@contextmanager
def record(connection: Connection, name: Which) -> Iterator[ConsoleText]:
    """Open the console of the active domain NAME, and keep what its guest writes meanwhile."""
    domain = our_domain(connection, name)
    text = ConsoleText()
    with explained(f"open the console of domain '{name}'"):
        stream = _opened(connection, domain, text, 0)

    def open_again() -> None:
        nonlocal stream
        text.interrupted = True
        with suppress(libvirt.libvirtError, HypervisorError):
            # Where nobody told the hypervisor that the line was cut, it is open there still.
            stream = _opened(connection, domain, text, libvirt.VIR_DOMAIN_CONSOLE_FORCE)

    with reopening_told(connection.handle, open_again):
        try:
            yield text
        finally:
            with suppress(libvirt.libvirtError):  # the guest's end has ended it already
                stream.eventRemoveCallback()
            with suppress(libvirt.libvirtError):
                stream.abort()


def _opened(
    connection: Connection, domain: libvirt.virDomain, text: ConsoleText, flags: int
) -> libvirt.virStream:
    """Return the console of DOMAIN, opened with FLAGS, whose text goes to TEXT."""
    stream = connection.handle.newStream(libvirt.VIR_STREAM_NONBLOCK)
    domain.openConsole(None, stream, flags)
    stream.eventAddCallback(
        libvirt.VIR_STREAM_EVENT_READABLE
        | libvirt.VIR_STREAM_EVENT_HANGUP
        | libvirt.VIR_STREAM_EVENT_ERROR,
        _receive,
        text,
    )
    return stream


def _receive(stream: libvirt.virStream, events: int, text: ConsoleText) -> None:
    """Feed TEXT what STREAM has; called by libvirt's event loop."""
    try:
        # -2: nothing more for now; empty: the end.
        while events & libvirt.VIR_STREAM_EVENT_READABLE:
            data = stream.recv(_RECEIVE)
            if data == -2:  # noqa: PLR2004 -- so documented
                return
            if not data:
                break
            text.feed(data)
    except libvirt.libvirtError:
        pass
    # Left in place, the callback would be called again and again.
    with suppress(libvirt.libvirtError):
        stream.eventRemoveCallback()

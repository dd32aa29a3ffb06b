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
    listening = _Listening(connection, our_domain(connection, name))
    with explained(f"open the console of domain '{name}'"):
        listening.begin()
    try:
        with reopening_told(connection.handle, listening.go_on):
            yield listening.text
    finally:
        listening.end()


class _Listening:
    """The console of DOMAIN, as long as it is heard; its TEXT is what was said."""

    def __init__(self, connection: Connection, domain: libvirt.virDomain) -> None:
        """Hear nothing yet."""
        self._connection = connection
        self._domain = domain
        self._stream: libvirt.virStream | None = None
        self._over = False
        self.text = ConsoleText()

    def begin(self, flags: int = 0) -> None:
        """Hear it, opened with FLAGS.  Raises libvirtError."""
        stream = self._connection.handle.newStream(libvirt.VIR_STREAM_NONBLOCK)
        self._domain.openConsole(None, stream, flags)
        stream.eventAddCallback(
            libvirt.VIR_STREAM_EVENT_READABLE
            | libvirt.VIR_STREAM_EVENT_HANGUP
            | libvirt.VIR_STREAM_EVENT_ERROR,
            _receive,
            self.text,
        )
        self._stream = stream

    def go_on(self) -> None:
        """Hear it over the next connection."""
        self.text.interrupted = True
        with suppress(libvirt.libvirtError, HypervisorError):
            # Where nobody told the hypervisor that the line was cut, it is open there still.
            self.begin(libvirt.VIR_DOMAIN_CONSOLE_FORCE)
        if self._over:  # since another thread began to have the line made again
            self.end()

    def end(self) -> None:
        """Hear nothing any more."""
        self._over = True
        stream = self._stream
        if stream is None:
            return
        # The guest's end, or that of the line, has ended it already.
        with suppress(libvirt.libvirtError, HypervisorError):
            stream.eventRemoveCallback()
        with suppress(libvirt.libvirtError, HypervisorError):
            stream.abort()


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

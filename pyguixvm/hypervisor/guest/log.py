# SPDX-License-Identifier: GPL-3.0-or-later
"""A file in a guest, read by its agent while a program there writes to it.

guest-exec itself tells what a program wrote when that has ended, and not before.
"""

from __future__ import annotations

import base64
import secrets
from collections.abc import Callable
from contextlib import suppress

import libvirt
import msgspec

from pyguixvm.hypervisor.guest import agent
from pyguixvm.hypervisor.time_limits import SilenceError

# Each log has a name of its own: who waits for another program does not read what that says.
DIRECTORY, PREFIX = "/run", "pyguixvm-log-"
# So much is asked for at once, told in all, kept of what was told last, and of a line (bytes).
_CHUNK = 48 * 1024
_MOST = 4 * 1024**2
_TAIL = 4096
_LONGEST_LINE = 1000
# So often more is asked for while a program runs, each time, and when it has ended: one that
# writes without an end is not followed for ever.
_AT_ONCE, _AT_LAST = 4, 16


class _Read(msgspec.Struct, frozen=True, rename="kebab"):
    count: int
    buf: str = msgspec.field(name="buf-b64", default="")


class Sparing:
    """TELL lines of what a guest writes, that much of each and of all: it writes what it likes."""

    def __init__(self, tell: Callable[[str], None]) -> None:
        """Have nothing be told yet."""
        self._tell = tell
        self._left = _MOST

    def __call__(self, line: str) -> None:
        """Tell LINE, unless it is blank."""
        text = line[:_LONGEST_LINE].rstrip()
        self._left -= len(text)
        if text and self._left > 0:
            self._tell(text)


class Log:
    """A new file in a guest; TELL is called with each of its lines, as `Sparing` says."""

    def __init__(self, domain: libvirt.virDomain, tell: Callable[[str], None]) -> None:
        """Have the agent of DOMAIN make the file; PATH is "" if it does not."""
        self._domain = domain
        self._tell = Sparing(tell)
        self._rest = b""
        self.tail = b""
        self.path = f"{DIRECTORY}/{PREFIX}{secrets.token_hex(8)}"
        self._handle: int | None = None
        if self._close(self._open("w")):
            self._handle = self._open("r")
        if self._handle is None:
            self.path = ""

    def read(self, most: int = _AT_ONCE) -> bool:
        """Tell what was written since the last time, as far as its lines are whole.

        MOST is how often to ask for more; return whether that was often enough.  Over a line that
        says nothing, nothing is told.
        """
        with suppress(SilenceError):
            return self._read(most)
        return True

    def _read(self, most: int) -> bool:
        for _ in range(most):
            if self._handle is None:
                break
            read = agent.ask(
                self._domain, "guest-file-read", _Read, handle=self._handle, count=_CHUNK
            )
            data = b"" if read is None else _decoded(read.buf)
            if not data:
                break
            self._take(data)
        else:
            return False
        return True

    def end(self) -> None:
        """Tell the rest, unless it is long, and close the file, which stays for a while."""
        with suppress(SilenceError):
            self._end()
        self._handle = None

    def _end(self) -> None:
        if not self.read(_AT_LAST):
            self._rest = b""
            agent.ask(
                self._domain, "guest-file-seek", msgspec.Raw,
                handle=self._handle, offset=-_TAIL, whence="end",
            )  # fmt: skip
            self.read(1)
        if self._rest:
            self._say(self._rest)
        self._close(self._handle)

    def _take(self, data: bytes) -> None:
        self.tail = (self.tail + data)[-_TAIL:]
        *lines, self._rest = (self._rest + data).split(b"\n")
        self._rest = self._rest[:_LONGEST_LINE]
        for line in lines:
            self._say(line)

    def _say(self, line: bytes) -> None:
        self._tell(line.decode(errors="replace"))

    def _open(self, mode: str) -> int | None:
        return agent.ask(
            self._domain, "guest-file-open", int, agent.PATIENCE, path=self.path, mode=mode
        )

    def _close(self, handle: int | None) -> bool:
        if handle is None:
            return False
        closed = agent.ask(
            self._domain, "guest-file-close", msgspec.Raw, agent.PATIENCE, handle=handle
        )
        return closed is not None


def _decoded(data: str) -> bytes:
    try:
        return base64.b64decode(data)
    except ValueError:
        return b""

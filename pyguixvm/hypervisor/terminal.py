# SPDX-License-Identifier: GPL-3.0-or-later
"""A terminal on a guest's serial console, until ``^]`` is typed."""

from __future__ import annotations

import os
import select
import termios
import time
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import libvirt

from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.domains import our_domain
from pyguixvm.hypervisor.errors import explained

# Telnet's and virsh's escape character, ^].
ESCAPE = b"\x1d"

_BLOCK = 64 * 1024
_WOULD_BLOCK = -2
_RETRY_SECONDS = 0.01


def attach(connection: Connection, name: str, stdin: int, stdout: int) -> None:
    """Join the file descriptors STDIN and STDOUT with the console of domain NAME.

    Returns when ^] is typed, STDIN ends, or the guest stops.  A terminal is
    put into raw mode meanwhile.
    """
    domain = our_domain(connection, name)
    with explained(f"open the console of machine '{name}'"):
        if not domain.isActive():
            raise RequestRefusedError(
                f"machine '{name}' is not running", hint=f"start it: pyguixvm start {name}"
            )
        stream = connection.handle.newStream(libvirt.VIR_STREAM_NONBLOCK)
        domain.openConsole(None, stream, libvirt.VIR_DOMAIN_CONSOLE_SAFE)
        ended, end = os.pipe()
        shown = _Shown(stdout, end)
        stream.eventAddCallback(
            libvirt.VIR_STREAM_EVENT_READABLE
            | libvirt.VIR_STREAM_EVENT_HANGUP
            | libvirt.VIR_STREAM_EVENT_ERROR,
            shown.receive,
            None,
        )
        try:
            with _raw(stdin):
                _pass_on(stdin, stream, ended)
        finally:
            with suppress(libvirt.libvirtError):  # the guest's end has ended it already
                stream.eventRemoveCallback()
            with suppress(libvirt.libvirtError):
                stream.abort()
            os.close(ended)
            shown.close()


def _pass_on(stdin: int, stream: libvirt.virStream, ended: int) -> None:
    """Send what is typed on STDIN to STREAM until there is reason to end."""
    while True:
        readable, _, _ = select.select([stdin, ended], [], [])
        if ended in readable:
            return
        typed = os.read(stdin, _BLOCK)
        before, escape, _ = typed.partition(ESCAPE)
        _send(stream, before)
        if escape or not typed:
            return


def _send(stream: libvirt.virStream, data: bytes) -> None:
    while data:
        sent = stream.send(data)
        if sent == _WOULD_BLOCK:
            time.sleep(_RETRY_SECONDS)
        else:
            data = data[sent:]


class _Shown:
    """Writes what a stream has to a file descriptor, and says when it has ended."""

    def __init__(self, stdout: int, end: int) -> None:
        self._stdout = stdout
        self._end: int | None = end

    def receive(self, stream: libvirt.virStream, events: int, _: object) -> None:
        """Take what is there; called by libvirt's event loop."""
        try:
            while events & libvirt.VIR_STREAM_EVENT_READABLE:
                data = stream.recv(_BLOCK)
                if data == _WOULD_BLOCK:
                    return
                if not data:
                    break
                while data:
                    data = data[os.write(self._stdout, data) :]
        except (libvirt.libvirtError, OSError):
            pass
        with suppress(libvirt.libvirtError):
            stream.eventRemoveCallback()
        self.close()

    def close(self) -> None:
        """Close the end of the pipe that the other thread waits for."""
        if self._end is not None:
            end, self._end = self._end, None
            os.close(end)


@contextmanager
def _raw(descriptor: int) -> Iterator[None]:
    """Have the terminal at DESCRIPTOR, if it is one, in raw mode."""
    if not os.isatty(descriptor):
        yield
        return
    before = termios.tcgetattr(descriptor)
    tty.setraw(descriptor)
    try:
        yield
    finally:
        with suppress(termios.error):  # the terminal may be gone
            termios.tcsetattr(descriptor, termios.TCSADRAIN, before)

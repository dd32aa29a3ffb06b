# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host of a hypervisor offers to guests, asked for once in a run."""

from __future__ import annotations

import threading
from collections.abc import Callable

import libvirt

from pyguixvm.hypervisor.at_once import begun
from pyguixvm.interruption import taken


class Offered:
    """The capabilities of a host (https://libvirt.org/formatcaps.html).

    A libvirtd that is new starts every QEMU there is, one after the other, to find them out:
    seconds, and more where there is one for each architecture.  Who will want to know lets it
    begin meanwhile.
    """

    def __init__(self, handle: libvirt.virConnect) -> None:
        """Ask for nothing yet; HANDLE is the connection's."""
        self._handle = handle
        self._lock = threading.Lock()
        self._answer: Callable[[], str] | None = None
        self._xml: str | None = None

    def begin(self) -> None:
        """Ask in the background, unless that was done; do not wait for anybody."""
        if not self._lock.acquire(blocking=False):
            return  # somebody asks at this moment
        try:
            if self._answer is None and self._xml is None:
                self._answer = begun(self._handle.getCapabilities, far=True)
        finally:
            self._lock.release()

    def known(self) -> str | None:
        """Return the capabilities as XML if they were asked for; ask nobody."""
        return self._xml

    def xml(self) -> str:
        """Return the capabilities as XML.  Raises libvirtError, and asks again next time.

        Of several threads one waits for the hypervisor and the others for that one, as long as
        it takes; whoever of them is to end meanwhile does so.
        """
        with taken(self._lock):
            if self._xml is None:
                answer, self._answer = self._answer, None
                self._xml = (answer or self._handle.getCapabilities)()
            return self._xml

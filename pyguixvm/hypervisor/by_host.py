# SPDX-License-Identifier: GPL-3.0-or-later
"""What the host of a hypervisor writes into a volume itself: quicker than libvirt's own line."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import libvirt

from pyguixvm.events import Emit, Notice, PhaseProgress
from pyguixvm.hypervisor import compressed, volumes
from pyguixvm.hypervisor.fetching import Origin, fetch
from pyguixvm.hypervisor.host_shell import NotWrittenError
from pyguixvm.hypervisor.resumption import arrived
from pyguixvm.hypervisor.sending import Sending, size_before, size_of
from pyguixvm.hypervisor.shell import has_shell

# What is compressed asks for processors of both ends, and another ssh or two: a quick line has sent
# it sooner.  So long (seconds) it is tried as it is, and so long the rest would have to take so.
_TRIED_SECONDS = 1.0
_WORTH_SECONDS = 5.0


@dataclass(frozen=True)
class ByHost:
    """What its host writes into the volume MADE of POOL, which is to hold what is SENDING.

    The data of that is in EXTENTS.  EMIT is told what goes on for the sake of MACHINE.
    """

    sending: Sending
    pool: str
    made: libvirt.virStorageVol
    extents: Sequence[tuple[int, int]]
    emit: Emit
    machine: str | None

    def fetched(self, origin: Origin, start: int) -> int | None:
        """Have the host fetch from ORIGIN what is lacking from START on.

        Return None if the volume is whole, or else from where on it is to be sent.  As long as
        more arrives each time, the host is asked again.
        """
        uri, path, size = self._place()
        while True:
            try:
                fetch(uri, path, size, origin, start, self._tell)
            except NotWrittenError as error:
                now = 0 if error.another else self.arrived()
                if now == 0:
                    self._wipe()
                if now <= start and not (error.another and start):
                    self._say(f"it is sent from here: the hypervisor did not fetch {origin.url} "
                              f"itself: {error.message}", warning=True)  # fmt: skip
                    return now
                start = now
            else:
                return None

    def is_better_compressed(self, start: int) -> Callable[[int], bool]:
        """Return what tells, from how many bytes were written from START on, whether the rest is.

        So it is if the line is seen to be slow, and may be tried.
        """
        connection = self.sending.connection
        if connection.local or not has_shell(connection.uri):
            return lambda _: False
        lacking = size_of(self.extents) - size_before(start, self.extents)
        begun = time.monotonic()

        def slow(written: int) -> bool:
            seconds = time.monotonic() - begun
            left = lacking - written
            return seconds > _TRIED_SECONDS and left * seconds > _WORTH_SECONDS * written

        return slow

    def received(self, start: int) -> tuple[int | None, bool]:
        """Send it what is lacking from START on, compressed.

        Return None if the volume is whole, or else from where on it is to be sent as it is; and
        whether it was broken off, and gone on with.
        """
        uri, path, size = self._place()
        broken_off = False
        while True:
            try:
                compressed.send(
                    uri,
                    path,
                    size,
                    self.sending.pieces(start),
                    there=size_before(start, self.extents),
                    tell=self._acknowledge,
                )
            except NotWrittenError as error:
                now = self.arrived()
                if now <= start:
                    self._say(f"it is sent as it is: {error.message}")
                    return start, broken_off
                start, broken_off = now, True
            else:
                self.sending.all_sent = True
                return None, broken_off

    def arrived(self) -> int:
        """Return up to which byte the volume holds what it is to.  Raises HypervisorError."""
        there = volumes.described_volume(self.pool, self.made)
        return arrived(self.sending.connection, there, self.sending.source, self.extents)

    def _place(self) -> tuple[str, str, int]:
        """Return the URI of the hypervisor, and which file of its host has how many bytes."""
        size = os.fstat(self.sending.source.fileno()).st_size
        return self.sending.connection.uri, self.made.path(), size

    def _wipe(self) -> None:
        """Have nothing show that is not of the image where that has holes."""
        # As much is wiped as it took when libvirt looked last.
        volumes.described_volume(self.pool, self.made)
        self.made.wipe(0)

    def _acknowledge(self, done: int) -> None:
        self.sending.acknowledged = True
        self._tell(done)

    def _tell(self, done: int) -> None:
        total = size_of(self.extents)
        self.emit(PhaseProgress("transfer", min(done, total), total, self.machine))

    def _say(self, message: str, *, warning: bool = False) -> None:
        self.emit(Notice(message, self.machine, warning=warning))

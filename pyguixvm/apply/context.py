# SPDX-License-Identifier: GPL-3.0-or-later
"""What carrying out a plan needs from outside it."""

from __future__ import annotations

import threading
import time
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyguixvm.digest.memory import Digests
from pyguixvm.events import Emit, Notice
from pyguixvm.guix.activation import Activation
from pyguixvm.guix.made_images import MadeImages
from pyguixvm.guix.roots import Roots
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.machine_lock.holder import operator
from pyguixvm.interruption import Interruption, pause, taken
from pyguixvm.model.applied import LastDeploy
from pyguixvm.model.provenance import Provenance
from pyguixvm.model.transfer import Via
from pyguixvm.state_directory import state_directory


class Turns:
    """Has the machines that are changed side by side make what they share one after the other."""

    def __init__(self) -> None:
        """Nobody makes anything."""
        self._locks: defaultdict[Hashable, threading.Lock] = defaultdict(threading.Lock)

    @contextmanager
    def at(self, *shared: Hashable) -> Iterator[None]:
        """Be alone in the body with what SHARED names."""
        with taken(self._locks[shared]):
            yield


@dataclass(frozen=True)
class Workshop:
    """What carrying out a plan needs; the effects that are not libvirt's are arguments.

    ACTIVATION changes guests in place to what a configuration declares; None where
    there is none.  INTERRUPTION tells whether the work is to end.  REQUIRE is called with
    a machine's name before each step that cannot be undone, and raises LostLockError
    unless it is ours to change.  PLACE is held while something is made that takes
    processors and lines, not while a guest is waited for; TURNS are those of all machines
    of the hypervisor.  VIA is how images get to one elsewhere.  ROOTS keep what machines stand on
    in Guix's store; None where nothing does.  BEGUN is when the work began.  PROVENANCE is that
    of the declaration, None where there is none.
    """

    connection: Connection
    emit: Emit
    environment: Mapping[str, str]
    store: Store
    activation: Activation | None = None
    interruption: Interruption = field(default_factory=Interruption)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    begun: datetime = field(default_factory=lambda: datetime.now(UTC))
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = pause
    require: Callable[[str], None] = lambda _machine: None
    place: Callable[[], AbstractContextManager[None]] = nullcontext
    turns: Turns = field(default_factory=Turns)
    roots: Roots | None = None
    via: Via = "upload"
    provenance: Provenance | None = None

    def deploy(self, *, over: bool = False, failed: bool = False) -> LastDeploy:
        """Return who changes machines here since when, and how long that took if it is OVER."""
        seconds = round((self.now() - self.begun).total_seconds(), 1) if over else None
        return LastDeploy(operator(), self.begun.isoformat(timespec="seconds"), seconds, failed)

    @property
    def digests(self) -> Digests:
        """What is known of images and base volumes that were read once."""
        return Digests(state_directory(self.environment))

    @property
    def made_images(self) -> MadeImages:
        """The images that others can stand on."""
        return MadeImages(state_directory(self.environment))

    def warn(self, machine: str, text: str) -> None:
        """Tell the user what MACHINE does otherwise than asked."""
        self.emit(Notice(text, machine, warning=True))

# SPDX-License-Identifier: GPL-3.0-or-later
"""What carrying out a plan needs from outside it."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime

from pyguixvm.events import Emit, Notice
from pyguixvm.guix.activation import Activation
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.interruption import Interruption


@dataclass(frozen=True)
class Workshop:
    """What carrying out a plan needs; the effects that are not libvirt's are arguments.

    ACTIVATION changes guests in place to what a configuration declares; None where
    there is none.  INTERRUPTION tells whether the work is to end.  REQUIRE is called with
    a machine's name before each step that cannot be undone, and raises LostLockError
    unless it is ours to change.
    """

    connection: Connection
    emit: Emit
    environment: Mapping[str, str]
    store: Store
    activation: Activation | None = None
    interruption: Interruption = field(default_factory=Interruption)
    now: Callable[[], datetime] = lambda: datetime.now(UTC)
    clock: Callable[[], float] = time.monotonic
    sleep: Callable[[float], None] = time.sleep
    require: Callable[[str], None] = lambda _machine: None

    def warn(self, machine: str, text: str) -> None:
        """Tell the user what MACHINE does otherwise than asked."""
        self.emit(Notice(text, machine, warning=True))

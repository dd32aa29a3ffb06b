# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a request takes place: all that comes from outside the configuration."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pyguixvm.commands.ahead import Ahead, Way
from pyguixvm.events import Emit
from pyguixvm.guix.command import find_guix
from pyguixvm.guix.request import Exchange
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.request_kinds import PATIENCE
from pyguixvm.hypervisor.shared_directories import sharing_driver
from pyguixvm.interruption import Interruption
from pyguixvm.model.transfer import Via
from pyguixvm.state_directory import state_directory


@dataclass(frozen=True)
class Session:
    """Where a run takes place: everything that comes from outside the configuration.

    URI is the hypervisor of machines that name none; OPTIONS are build options for
    Guix, and LOAD_PATH the directories among them that hold modules; FORWARD takes
    what the configuration itself writes to standard error.
    INTERRUPTION tells whether the person wants the run to end.  VERIFY: all that is sent to a
    hypervisor is compared with what arrived, instead of some of it.  VIA is how images get to one
    elsewhere.  PATIENCE is how long (seconds)
    the hypervisors of what is declared have for a request that needs neither disks nor guests.
    AHEAD has connections that are made before they are asked for.
    """

    uri: str | None
    options: tuple[str, ...]
    environment: Mapping[str, str]
    emit: Emit
    forward: Callable[[bytes], None]
    interruption: Interruption = field(default_factory=Interruption)
    load_path: tuple[Path, ...] = ()
    verify: bool = False
    via: Via = "upload"
    patience: float = PATIENCE
    ahead: Ahead = field(default_factory=Ahead)

    @property
    def state_directory(self) -> Path:
        """Where is kept what is to outlive a command."""
        return state_directory(self.environment).absolute()

    @property
    def store(self) -> Store:
        """The store of this machine; Guix is looked for when it is needed."""
        return Store(self.exchange, self.emit)

    @property
    def given_uri(self) -> str | None:
        """The hypervisor of machines that name none, as far as libvirt is not to choose it."""
        return self.uri or self.environment.get("LIBVIRT_DEFAULT_URI")

    @property
    def sharing(self) -> Literal["virtiofs", "9p"]:
        """How the hypervisor of machines that name none shares directories with guests."""
        return sharing_driver(self.given_uri, os.geteuid())

    def connecting(self) -> AbstractContextManager[None]:
        """Connect to hypervisors elsewhere while the body finds out which ones it needs."""
        way = Way(self.given_uri, self.patience, self.verify)
        return self.ahead.connecting(self.uri, way)

    def exchange(self) -> Exchange:
        """Return the way to the evaluator.  Raises BuildError if there is no Guix."""
        return Exchange(find_guix(self.environment), self.options, self.environment)

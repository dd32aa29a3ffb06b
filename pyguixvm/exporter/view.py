# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a fleet at one moment, as metrics and the page are made of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.observation import Observation
from pyguixvm.model.provenance import Provenance
from pyguixvm.model.statistics import PoolSpace, Statistics
from pyguixvm.plan.status import MachineStatus


@dataclass(frozen=True)
class Declared:
    """What the configuration CONFIG declares for one hypervisor, in a deployment of NAME.

    PROVENANCE is what it was evaluated with.
    """

    config: str
    name: str | None
    machines: tuple[VirtualMachine, ...]
    provenance: Provenance | None = None


@dataclass(frozen=True)
class HypervisorView:
    """What was last seen of the hypervisor at URI.

    ERROR says why it does not answer, None while it does; what was seen before stays.  LOOKED
    is when it was looked at as a whole (seconds since the epoch, 0 for never), and SECONDS how
    long that took.  STATISTICS are by the UUIDs of all domains, be they ours or not.
    """

    uri: str
    error: str | None = "not looked at yet"
    looked: float = 0.0
    seconds: float = 0.0
    observation: Observation | None = None
    statuses: tuple[MachineStatus, ...] = ()
    statistics: Mapping[str, Statistics] = field(default_factory=dict)
    spaces: tuple[PoolSpace, ...] = ()


@dataclass(frozen=True)
class ConfigurationView:
    """How the last evaluation of PATH ended: ERROR is None if well.

    MACHINES are the names of those that it declares, by what evaluated last.
    """

    path: str
    error: str | None = None
    machines: tuple[str, ...] = ()


@dataclass(frozen=True)
class FleetView:
    """All that is known.

    DEPLOYS counts deploys by machine and how they ended, EVALUATION_ERRORS evaluations that
    failed, by configuration: both since ever, as far as the exporter was there.  COMMITTED is
    when (seconds since the epoch) commits were made.
    """

    hypervisors: tuple[HypervisorView, ...] = ()
    configurations: tuple[ConfigurationView, ...] = ()
    deploys: Mapping[tuple[str, str], int] = field(default_factory=dict)
    evaluation_errors: Mapping[str, int] = field(default_factory=dict)
    committed: Mapping[str, float] = field(default_factory=dict)

    @property
    def statuses(self) -> tuple[MachineStatus, ...]:
        """The status of all machines."""
        return tuple(status for each in self.hypervisors for status in each.statuses)

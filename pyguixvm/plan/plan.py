# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: what will be done, as data, computed once and carried out as it stands."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.difference import Difference, Effect
from pyguixvm.model.system_change import SystemChange
from pyguixvm.model.transfer import Transfer
from pyguixvm.plan.actions import Action, Preparation, StartDomain, StopDomain

# Ways to a changed operating system; "auto" leaves the choice to the planner.
Strategy: TypeAlias = Literal["auto", "increment", "full", "live", "in-place", "shared-store"]
# Those that plans take, of which "assembled" is not asked for: it stands in for "full".
Taken: TypeAlias = Strategy | Literal["assembled"]
# How a throwaway copy is started: by its kernel alone, or in full, by firmware and boot loader.
Trial: TypeAlias = Literal["direct", "full"]
# Those that make no root, but change the guest that runs.
CHANGING_GUESTS: frozenset[Strategy] = frozenset({"live", "in-place"})


# How long (seconds) a guest may take to shut down, and if it may be powered off then.
STOP_SECONDS = 120
FORCED_STOP_SECONDS = 30


class Policy(msgspec.Struct, frozen=True):
    """What the user allows, and the way to a changed operating system.

    RESTART guests; power off those that do not stop (FORCE); replace, or power
    off, those that are declared to be protected (UNPROTECT).  STOP_TIMEOUT is how long
    (seconds) a guest may take to shut down, None for the usual.  FAST_STOP: one that gets a
    new root is powered off with its file systems frozen, if its agent does that.
    PREFER_LIVE: with the strategy "auto", a guest that runs is changed by its agent where
    that is possible.
    ALLOW_DOWNGRADES: to what older commits declare.
    Such changes go to the volume of the first of them if that was made SINCE then (UTC in ISO
    8601), None for a volume each.
    """

    restart: bool = True
    force: bool = False
    unprotect: bool = False
    strategy: Strategy = "auto"
    stop_timeout: int | None = None
    fast_stop: bool = False
    prefer_live: bool = False
    since: str | None = None
    allow_downgrades: bool = False

    def stop(self) -> StopDomain:
        """Return how a guest is stopped."""
        usual = FORCED_STOP_SECONDS if self.force else STOP_SECONDS
        timeout = usual if self.stop_timeout is None else self.stop_timeout
        return StopDomain(timeout=timeout, force=self.force)


class MachinePlan(msgspec.Struct, frozen=True, rename="kebab"):
    """What happens to one machine.

    A REFUSAL says why nothing may be done to it although it differs; then there are no
    actions.  HINT says what a person can do.  STRATEGY is the way to a new operating
    system, None where there is none, and REASON says why it was chosen.  FALLBACK is
    the generation that comes back if the guest does not get ready.  DOWNTIME is how
    long (seconds) it was away the last time, None where that is not known or nothing
    stops.  FOREIGN names devices that are not ours and stay.  BYTES_TO_MOVE is what an
    image not there yet takes to send, None where that is not known (it is not built,
    nobody looked); a root volume adds some megabytes of its own.  TRANSFER is how that
    is sent, None where that is not known either.  NEW_POOL is the pool that is made for
    its volumes, None if that is there.  SYSTEM_CHANGES is what comes, goes and changes
    with the operating system, as far as somebody looked.
    """

    machine: VirtualMachine
    effect: Effect
    actions: tuple[Action, ...] = ()
    differences: tuple[Difference, ...] = ()
    refusal: str | None = None
    hint: str | None = None
    fallback: int | None = None
    downtime: float | None = None
    foreign: tuple[str, ...] = ()
    bytes_to_move: int | None = None
    transfer: Transfer | None = None
    strategy: Taken | None = None
    reason: str | None = None
    new_pool: str | None = None
    system_changes: tuple[SystemChange, ...] = ()

    @property
    def preparation(self) -> tuple[Preparation, ...]:
        """The actions that leave the machine as it is."""
        return tuple(each for each in self.actions if isinstance(each, Preparation))

    @property
    def switch(self) -> tuple[Action, ...]:
        """The actions after the preparation if a guest is started: it may be away meanwhile."""
        return self._rest if any(isinstance(each, StartDomain) for each in self._rest) else ()

    @property
    def changes(self) -> tuple[Action, ...]:
        """The actions after the preparation if the guest stays."""
        return () if self.switch else self._rest

    @property
    def _rest(self) -> tuple[Action, ...]:
        return tuple(each for each in self.actions if not isinstance(each, Preparation))

    @property
    def pending(self) -> bool:
        """Whether a difference stays until the next start."""
        restarts = any(isinstance(action, StartDomain) for action in self.actions)
        return not restarts and any(d.effect == "restart" for d in self.differences)


class Plan(msgspec.Struct, frozen=True, rename="kebab"):
    """What happens to the machines of the hypervisor at URI, in this order.

    CONFIG is the file that declares them, if they are all of its machines, and
    DEPLOYMENT its name.  UNDECLARED are machines there that belong to that deployment,
    and that it does not declare any more.
    """

    uri: str
    machines: tuple[MachinePlan, ...]
    config: str | None = None
    deployment: str | None = None
    undeclared: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do, and nothing that was refused or stays to be done."""
        return not any(
            machine.actions or machine.refusal or machine.differences for machine in self.machines
        )

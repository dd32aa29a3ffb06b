# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: what will be done, as data, computed once and carried out as it stands."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.deployment import VirtualMachine
from pyguixvm.reconcile.differences import Difference

Effect: TypeAlias = Literal["none", "live", "restart", "replace", "create", "delete"]


class _Action(msgspec.Struct, frozen=True, tag_field="action", rename="kebab"):
    """Common options."""


class RealizeImage(_Action, frozen=True, tag="realize-image"):
    """Build DERIVATION with Guix; OUTPUT is the store item it leads to."""

    derivation: str
    output: str


class CreateRoot(_Action, frozen=True, tag="create-root"):
    """Make root volume VOLUME of SIZE bytes in POOL, grown from the image at IMAGE."""

    pool: str
    volume: str
    image: str
    size: int


class DefineDomain(_Action, frozen=True, tag="define-domain"):
    """Define the domain, with autostart as declared."""

    generation: int
    autostart: bool


class StartDomain(_Action, frozen=True, tag="start-domain"):
    """Start the domain and wait at most TIMEOUT seconds until its guest is ready."""

    timeout: int


Action: TypeAlias = RealizeImage | CreateRoot | DefineDomain | StartDomain


class MachinePlan(msgspec.Struct, frozen=True, rename="kebab"):
    """What happens to one machine.

    A REFUSAL says why nothing may be done to it although it differs; then there
    are no actions.
    """

    machine: VirtualMachine
    effect: Effect
    actions: tuple[Action, ...] = ()
    differences: tuple[Difference, ...] = ()
    refusal: str | None = None
    hint: str | None = None


class Plan(msgspec.Struct, frozen=True, rename="kebab"):
    """What happens to the machines of the hypervisor at URI, in this order."""

    uri: str
    machines: tuple[MachinePlan, ...]

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do, and nothing that was refused."""
        return not any(machine.actions or machine.refusal for machine in self.machines)

# SPDX-License-Identifier: GPL-3.0-or-later
"""A plan: what will be done, as data, computed once and carried out as it stands."""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.declaration import ImageContent, VirtualMachine
from pyguixvm.plan.difference import Difference, Effect

# Ways to a changed operating system; "auto" leaves the choice to the planner.
Strategy: TypeAlias = Literal["auto", "increment", "full", "in-place", "shared-store"]


class Policy(msgspec.Struct, frozen=True):
    """What the user allows, and the way to a changed operating system.

    RESTART guests; power off those that do not stop (FORCE); replace, or power
    off, those that are declared to be protected (UNPROTECT).
    """

    restart: bool = True
    force: bool = False
    unprotect: bool = False
    strategy: Strategy = "auto"


class _Action(msgspec.Struct, frozen=True, tag_field="action", rename="kebab"):
    """Common options."""


class RealizeImage(_Action, frozen=True, tag="realize-image"):
    """Build DERIVATION with Guix; OUTPUT is the store item it leads to."""

    derivation: str
    output: str


class RealizeContent(_Action, frozen=True, tag="realize-content"):
    """Build with Guix what fills the root partition of an image, and no image."""

    content: ImageContent


class CreateRoot(_Action, frozen=True, tag="create-root"):
    """Make root volume VOLUME of SIZE bytes in POOL, grown from the image at IMAGE.

    With CONTENT, IMAGE is that of another system, a base: the volume gets what
    the content has and the base lacks.  If that is more than half of the base, it
    is made from the whole image after all, which WHOLE builds.
    """

    pool: str
    volume: str
    image: str
    size: int
    content: ImageContent | None = None
    whole: RealizeImage | None = None


class RealizeSystem(_Action, frozen=True, tag="realize-system"):
    """Build an operating system, DERIVATION, with Guix, and no image; OUTPUT is its store item."""

    derivation: str
    output: str


class CreateEmptyRoot(_Action, frozen=True, tag="create-empty-root"):
    """Make root volume VOLUME of SIZE bytes in POOL for SYSTEM, which runs from the host's store.

    It is an ext4 with LABEL.
    """

    pool: str
    volume: str
    size: int
    label: str
    system: str


class CreateDisk(_Action, frozen=True, tag="create-disk"):
    """Make VOLUME of SIZE bytes in POOL for data disk DISK, with an empty FILE_SYSTEM."""

    disk: str
    pool: str
    volume: str
    size: int
    file_system: Literal["ext4", "btrfs"]


class GrowDisk(_Action, frozen=True, tag="grow-disk"):
    """Let VOLUME of data disk DISK, which is there, have SIZE bytes."""

    disk: str
    volume: str
    size: int


class StopDomain(_Action, frozen=True, tag="stop-domain"):
    """Have the guest shut down; FORCE: power it off if it does not within TIMEOUT seconds."""

    timeout: int
    force: bool


class DefineDomain(_Action, frozen=True, tag="define-domain"):
    """Define the domain, or define it anew in place, with GENERATION as its current one."""

    generation: int
    autostart: bool


class SetMemory(_Action, frozen=True, tag="set-memory"):
    """Have the running guest's balloon leave it MEMORY bytes."""

    memory: int


class SetVcpus(_Action, frozen=True, tag="set-vcpus"):
    """Plug vCPUs into the running guest, or out of it, until it has CPU of them."""

    cpu: int


class AttachInterface(_Action, frozen=True, tag="attach-interface"):
    """Plug the interface that is defined with MAC_ADDRESS into the running guest."""

    mac_address: str


class UpdateInterface(_Action, frozen=True, tag="update-interface"):
    """Connect the running guest's interface with MAC_ADDRESS as it is defined."""

    mac_address: str


class DetachInterface(_Action, frozen=True, tag="detach-interface"):
    """Unplug the interface with MAC_ADDRESS from the running guest."""

    mac_address: str


class AttachDisk(_Action, frozen=True, tag="attach-disk"):
    """Plug the disk that is defined at SOURCE, a device or our volume, into the running guest."""

    source: str


class DetachDisk(_Action, frozen=True, tag="detach-disk"):
    """Unplug the disk at SOURCE, a device or our volume, from the running guest."""

    source: str


class PrepareSystem(_Action, frozen=True, tag="prepare-system"):
    """Build what the guest is to run in place, and see that it can be reached by ssh.

    SYSTEM is the derivation of the operating system as it would be in an image; it is
    built for the root file system with ROOT_UUID, which is there.
    """

    system: str
    root_uuid: str


class StackRoot(_Action, frozen=True, tag="stack-root"):
    """Have the running guest write to VOLUME, on top of its root, from now on.

    What is below stays as it is and can be returned to; in the end that is IMAGE.  The
    volume is that of GENERATION, in which nothing else has changed yet.
    """

    generation: int
    volume: str
    image: str


class ActivateSystem(_Action, frozen=True, tag="activate-system"):
    """Have the running guest switch to the system that was prepared.

    RESTART is how to stop it if it booted by what that does not boot by; None if it
    may not be restarted.
    """

    system: str
    root_uuid: str
    restart: StopDomain | None


class StartDomain(_Action, frozen=True, tag="start-domain"):
    """Start the domain and wait at most TIMEOUT seconds until its guest is ready."""

    timeout: int


class AwaitReady(_Action, frozen=True, tag="await-ready"):
    """Wait at most TIMEOUT seconds until the guest, which runs, is ready."""

    timeout: int


LiveAction: TypeAlias = (
    SetMemory
    | SetVcpus
    | AttachInterface
    | UpdateInterface
    | DetachInterface
    | AttachDisk
    | DetachDisk
)
Preparation: TypeAlias = (
    RealizeImage
    | RealizeContent
    | RealizeSystem
    | CreateRoot
    | CreateEmptyRoot
    | CreateDisk
    | GrowDisk
    | PrepareSystem
)
Action: TypeAlias = (
    Preparation
    | StopDomain
    | StackRoot
    | ActivateSystem
    | DefineDomain
    | LiveAction
    | StartDomain
    | AwaitReady
)


class MachinePlan(msgspec.Struct, frozen=True, rename="kebab"):
    """What happens to one machine.

    A REFUSAL says why nothing may be done to it although it differs; then there
    are no actions.  STRATEGY is the way to a new operating system, None where there
    is none, and REASON says why it was chosen.  FALLBACK is the generation that comes
    back if the guest does not get ready.  DOWNTIME is how long (seconds) it was away
    the last time, None where that is not known or nothing stops.  FOREIGN names
    devices that are not ours and stay.  BYTES_TO_MOVE is what an image not there yet
    takes to send, None where that is not known (it is not built, nobody looked); a
    root volume adds some megabytes of its own.  NEW_POOL is the pool that is made for its
    volumes, None if that is there.
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
    strategy: Strategy | None = None
    reason: str | None = None
    new_pool: str | None = None

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

# SPDX-License-Identifier: GPL-3.0-or-later
"""The single steps of a plan.

A new one is a structure, its name in one of the unions at the end, what carries it out in
apply/ (executor.py, or hotplug.py for what a running guest follows), and its words in
cli/show.py: mypy names the places.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.image import ImageContent


class _Action(msgspec.Struct, frozen=True, tag_field="action", rename="kebab"):
    """Common options."""


class RealizeImage(_Action, frozen=True, tag="realize-image"):
    """Build DERIVATION with Guix; OUTPUT is the store item it leads to."""

    derivation: str
    output: str


class FetchImage(_Action, frozen=True, tag="fetch-image"):
    """Have at PATH the disk image that URL leads to; it is to have DIGEST, and to be of FORMAT.

    THERE: the hypervisor's host is to fetch it, too, rather than have it sent.
    """

    url: str
    digest: str
    path: str
    format: Literal["qcow2", "raw"]
    there: bool = False


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
    """Have the guest shut down; FORCE: power it off if it does not within TIMEOUT seconds.

    FAST: before, try to have its agent freeze its file systems, and power it off then.
    """

    timeout: int
    force: bool
    fast: bool = False


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
    """Build what the guest is to run in place, and see that it can be reached by BY.

    SYSTEM is the derivation of the operating system as it would be in an image; it is
    built for the root file system with ROOT_UUID, which is there.
    """

    system: str
    root_uuid: str
    by: Literal["ssh", "agent"] = "ssh"


class StackRoot(_Action, frozen=True, tag="stack-root"):
    """Have the running guest write to VOLUME, on top of its root, from now on.

    What is below stays as it is and can be returned to; in the end that is IMAGE.  The
    volume is that of GENERATION, in which nothing else has changed yet.
    """

    generation: int
    volume: str
    image: str


class KeepLayer(_Action, frozen=True, tag="keep-layer"):
    """Have the running guest go on writing to the volume that it has, that of GENERATION.

    Changes of the last minutes were made there already, and are taken back with this one.
    """

    generation: int


class MergeLayers(_Action, frozen=True, tag="merge-layers"):
    """Make one of the root VOLUMES of POOL, each of which stands on the next: the last.

    The running guest's root stands on them.  What the first shows stays, whatever it is called;
    GENERATIONS are those of the others, and can be returned to no more.
    """

    pool: str
    volumes: tuple[str, ...]
    generations: tuple[int, ...] = ()


class ActivateSystem(_Action, frozen=True, tag="activate-system"):
    """Have the running guest switch to the system that was prepared.

    If it booted by what that does not boot by, it is restarted: by kexec if it can, or else
    it is stopped as RESTART says, and started.  None if it may not be restarted.
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
    | FetchImage
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
    | KeepLayer
    | MergeLayers
    | ActivateSystem
    | DefineDomain
    | LiveAction
    | StartDomain
    | AwaitReady
)

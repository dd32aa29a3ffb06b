# SPDX-License-Identifier: GPL-3.0-or-later
"""A new root is booted in a throwaway copy before its machine gets it."""

from __future__ import annotations

import dataclasses
import os
import secrets
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.definition import definition
from pyguixvm.apply.root_volume import Root, root_as_backing
from pyguixvm.apply.tried import remember_tried, trial_digest, tried_before
from pyguixvm.apply.unused_volumes import delete_unused
from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.errors import RequestRefusedError, TrialFailedError
from pyguixvm.events import ignore, phase
from pyguixvm.hypervisor import networks, transient, upload
from pyguixvm.hypervisor.connection import Connection, capabilities
from pyguixvm.hypervisor.guest.evidence import boot
from pyguixvm.hypervisor.shared_directories import store_access
from pyguixvm.image import overlay
from pyguixvm.image.blank import make_disk
from pyguixvm.image.workplace import workplace
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import BlockDevice, DataDisk, MountPoint, VirtualMachine
from pyguixvm.model.image import DirectBoot, SharedStore, SystemImage
from pyguixvm.model.volume_names import data_label, trial_domain, trial_mac, trial_volume
from pyguixvm.plan.plan import Trial
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.storage import AttachedDisk


def try_root(
    machine: VirtualMachine, root: Root, size: int, workshop: Workshop, trial: Trial
) -> None:
    """Boot a copy of MACHINE from ROOT, of SIZE bytes, and return when it was ready.

    It is started as TRIAL says, which is in full where the hypervisor cannot read the kernel; but
    where that is not asked for, one that was ready before is not started again.
    ROOT is only read.  The copy has a name and MAC addresses of its own, empty data
    disks, and nothing of it stays.  Raises TrialFailedError if it is not ready in
    time, and RequestRefusedError if MACHINE cannot be tried.
    """
    connection = workshop.connection
    name = trial_domain(machine.name)
    # A run that was killed may have left it; whoever does not hold our lock cannot.
    transient.clear(connection, name, trial_volume(machine.name))
    direct = _direct_boot(machine, connection) if trial == "direct" else None
    digest = trial_digest(machine, size, direct, workshop)
    if trial == "direct" and (before := tried_before(machine.name, digest, workshop)):
        with phase(workshop.emit, "try", machine.name) as result:
            result.detail = f"not booted: the same was ready in a copy on {before.date}"
        return
    by_kernel = direct is not None or isinstance(machine.image, SharedStore)
    how = f"started by its {'kernel' if by_kernel else 'boot loader'}"
    with (
        phase(workshop.emit, "try", machine.name, detail=f"{name}, {how}") as result,
        ExitStack() as made,
    ):
        directory = made.enter_context(workplace())
        copy = _copy(machine, directory, workshop)
        defined = _definition(machine, copy, root, size, directory, made, workshop)
        xml = domain_xml(msgspec.structs.replace(defined, boot=direct))
        uefi = copy.domain.firmware == "uefi"
        nvram = uefi and direct is None
        workshop.require(machine.name)
        # Of such a run, too, which may have been one by firmware.
        transient.discard(connection, name, domain_xml(defined), nvram=uefi)
        networks.ensure_networks(connection, copy)
        made.callback(transient.discard, connection, name, xml, nvram=nvram)
        evidence = made.enter_context(
            boot(
                connection,
                copy,
                start_paused=lambda where, name: transient.start_paused(where, name, xml),
            )
        )
        readiness = wait_ready(
            copy,
            evidence,
            deadline=workshop.clock() + machine.ready_timeout,
            clock=workshop.clock,
            sleep=workshop.sleep,
        )
        result.detail = f"{how}; {readiness.detail}"
        if readiness.outcome == "not-ready":
            raise TrialFailedError(
                f"'{machine.name}' was left as it is: its throwaway copy is not ready: "
                f"{readiness.detail}",
                console=readiness.console,
                hint="Mend the declaration and deploy again.",
            )
    if readiness.outcome == "ready":
        remember_tried(machine.name, digest, workshop)
    else:
        workshop.warn(machine.name, f"its throwaway copy is not verified: {readiness.detail}")


def _direct_boot(machine: VirtualMachine, connection: Connection) -> DirectBoot | None:
    """Return how the hypervisor starts a copy of MACHINE without firmware and boot loader.

    Return None if it cannot: another host does not have this one's store, nor does this one
    have a kernel whose image came from elsewhere; and what libvirt starts a domain by it gives
    to QEMU's user meanwhile, where it can.
    """
    image = machine.image
    if not isinstance(image, SystemImage) or image.content is None or not connection.local:
        return None
    boot = image.content.boot
    files = (boot.kernel, boot.initrd) if boot else ()
    return boot if all(_stays_ours(connection, Path(file)) for file in files) else None


def _stays_ours(connection: Connection, file: Path) -> bool:
    """Whether FILE is there, and libvirt cannot change its owner."""
    return file.exists() and store_access(connection.uri, os.geteuid(), file.parent) == "read-only"


def _copy(machine: VirtualMachine, directory: Path, workshop: Workshop) -> VirtualMachine:
    """Return MACHINE with nothing that another machine has as well."""
    domain = machine.domain
    for disk in domain.disks:
        if isinstance(disk, BlockDevice):
            workshop.warn(machine.name, f"its throwaway copy goes without {disk.device}")
    return msgspec.structs.replace(
        machine,
        name=trial_domain(machine.name),
        domain=msgspec.structs.replace(
            domain,
            autostart=False,
            networking=tuple(
                msgspec.structs.replace(interface, mac_address=trial_mac(machine.name, index))
                for index, interface in enumerate(domain.networking)
            ),
            mount_points=tuple(
                _harmless(mount, machine, directory, workshop) for mount in domain.mount_points
            ),
        ),
    )


def _harmless(
    mount: MountPoint, machine: VirtualMachine, directory: Path, workshop: Workshop
) -> MountPoint:
    """Return MOUNT, with an empty directory in place of one that a guest could write to."""
    if mount.read_only:
        return mount
    if not workshop.connection.local:
        raise RequestRefusedError(
            f"'{machine.name}' cannot be tried: its copy would write to {mount.source} "
            "on another host",
            hint="Make that mount-point read-only, or deploy without --test.",
            location=str(machine.location),
        )
    # QEMU runs as a user of its own, who has to get there; others have to guess the name.
    empty = directory / f"mount-{mount.tag}-{secrets.token_hex(16)}"
    empty.mkdir(mode=0o700)
    directory.chmod(0o711)
    user = capabilities(workshop.connection).qemu_user
    if user is not None and os.geteuid() == 0:
        os.chown(empty, user, -1)
    elif user is not None:
        empty.chmod(0o777)
    return msgspec.structs.replace(mount, source=str(empty))


def _definition(  # noqa: PLR0917 -- the copy, what it stands on, and where it is made
    machine: VirtualMachine,
    copy: VirtualMachine,
    root: Root,
    size: int,
    directory: Path,
    made: ExitStack,
    workshop: Workshop,
) -> DomainDefinition:
    """Make the volumes of COPY, which go with MADE; return its definition."""
    connection = workshop.connection
    file = directory / "root"
    overlay.create_unsafe(Path(root.path), "qcow2", file, size)
    volume = trial_volume(machine.name)
    path = made.enter_context(_throwaway(connection, root.pool, volume, file))
    disks = []
    for disk in machine.domain.disks:
        if isinstance(disk, DataDisk):
            label, file = data_label(disk.name), directory / disk.name
            make_disk(file, disk.size, disk.file_system, label, directory)
            name = trial_volume(machine.name, disk.name)
            empty = made.enter_context(_throwaway(connection, root.pool, name, file))
            disks.append(AttachedDisk(path=empty, serial=label))
    generation = Generation(
        number=1,
        date=workshop.now().isoformat(timespec="seconds"),
        label=f"a throwaway copy of {machine.name}",
        pool=root.pool,
        volume=volume,
        image=root.image,
        declaration=copy,
        base=root.base,
    )
    return definition(
        copy,
        dataclasses.replace(root, path=path, backing=(root_as_backing(root.path), *root.backing)),
        tuple(disks),
        connection,
        workshop.environment,
        Metadata(current=1, generations=(generation,)),
    )


@contextmanager
def _throwaway(connection: Connection, pool: str, name: str, file: Path) -> Iterator[str]:
    """Yield the file name of a volume with the bytes of FILE; it goes whatever happens.

    Raises RequestRefusedError if there is one of that name that something uses.
    """
    for kept in delete_unused(connection, [(pool, name)]):
        raise RequestRefusedError(
            f"the throwaway copy needs a volume '{name}' in pool '{pool}', and there is one: "
            f"{kept.reason}",
            hint="Nothing was done to it. Deploy without --test, or detach that volume.",
        )
    try:
        yield upload.upload_volume(connection, pool, name, file, ignore).path
    finally:
        delete_unused(connection, [(pool, name)])

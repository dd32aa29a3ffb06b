# SPDX-License-Identifier: GPL-3.0-or-later
"""A virtual machine's domain XML (https://libvirt.org/formatdomain.html)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

import msgspec
from lxml import etree

from pyguixvm.model.applied import Metadata
from pyguixvm.model.declaration import Networking, VirtualMachine
from pyguixvm.model.image import DirectBoot, SharedStore
from pyguixvm.xml import plain_fields
from pyguixvm.xml.metadata import metadata_element
from pyguixvm.xml.storage import (
    AttachedDisk,
    BackingFile,
    further_disks,
    root_disk,
    shared_directory,
    shared_memory,
)
from pyguixvm.xml.text import element, render

EMULATOR_MACHINE = "q35"
# Each hot-plugged virtio device takes a root port of its own; q35 gets none by itself.
SPARE_ROOT_PORTS = 8
# What occupies a root port beside the interfaces: root disk, serial bus, balloon, RNG.
_FIXED_PCI_DEVICES = 4


class DomainDefinition(msgspec.Struct, frozen=True):
    """Everything a domain's XML is made from.

    ROOT is the root volume's absolute file name, BACKING what it stands on,
    nearest first, and DISKS the disks beside it.  SECURITY_MODELS are those
    that the host's capabilities list: libvirt refuses a label for any other.  BOOT is what
    the hypervisor starts by itself instead of what is on the root volume.
    """

    machine: VirtualMachine
    root: str
    backing: tuple[BackingFile, ...]
    domain_type: Literal["kvm", "qemu"]
    metadata: Metadata | None = None
    uuid: str | None = None
    root_format: Literal["qcow2", "raw"] = "qcow2"
    architecture: str = "x86_64"
    emulator_machine: str = EMULATOR_MACHINE
    security_models: tuple[str, ...] = ("dac",)
    disks: tuple[AttachedDisk, ...] = ()
    boot: DirectBoot | None = None


def domain_xml(definition: DomainDefinition) -> str:
    """Return the XML that defines DEFINITION's machine.

    Raises `EvaluationError` when a plain field holds what libvirt cannot store.
    """
    machine = definition.machine
    plain_fields.require_representable(machine)
    domain = machine.domain
    root = element("domain", {"type": definition.domain_type}, element("name", machine.name))
    if definition.uuid is not None:
        root.append(element("uuid", definition.uuid))
    if definition.metadata is not None:
        root.append(element("metadata", metadata_element(definition.metadata)))
    root.extend(
        [
            element("memory", {"unit": "KiB"}, _kib(domain.maximum_memory)),
            element("currentMemory", {"unit": "KiB"}, _kib(domain.memory)),
            *(
                (shared_memory(),)
                if any(mount.driver == "virtiofs" for mount in domain.mount_points)
                else ()
            ),
            _vcpu(domain.cpu, domain.maximum_cpu),
            _os(definition),
            element("features", element("acpi"), element("apic")),
            _cpu(definition.domain_type),
            _clock(),
            element("on_poweroff", "destroy"),
            element("on_reboot", "restart"),
            # A crash stays visible as such instead of a silent loop of restarts.
            element("on_crash", "destroy"),
            _devices(definition),
        ]
    )
    plain_fields.write(domain, root)
    return render(root)


def _kib(size: int) -> str:
    """SIZE bytes in KiB, libvirt's own unit, rounded up."""
    return str(-(-size // 1024))


def _vcpu(current: int, maximum: int) -> etree._Element:
    """CPUs at boot, and the limit up to which more can be plugged in."""
    limited = {"current": str(current)} if current < maximum else {}
    return element("vcpu", {"placement": "static"} | limited, str(maximum))


def _os(definition: DomainDefinition) -> etree._Element:
    """Firmware and boot order."""
    kind = element(
        "type", {"arch": definition.architecture, "machine": definition.emulator_machine}, "hvm"
    )
    boot = element("boot", {"dev": "hd"})
    direct = _started_directly(definition)
    if direct is not None:
        return element("os", kind, boot, *_direct_boot(direct))
    if definition.machine.domain.firmware == "bios":
        return element("os", kind, boot)
    # Left to itself, libvirt picks the Secure Boot build of OVMF, which does
    # not start the unsigned GRUB of a Guix System.
    no_secure_boot = element(
        "firmware", element("feature", {"enabled": "no", "name": "secure-boot"})
    )
    return element("os", {"firmware": "efi"}, kind, no_secure_boot, boot)


def _started_directly(definition: DomainDefinition) -> DirectBoot | None:
    image = definition.machine.image
    return image.boot if isinstance(image, SharedStore) else definition.boot


def _direct_boot(boot: DirectBoot) -> Iterator[etree._Element]:
    """Yield what the hypervisor starts itself, whatever is on the disk."""
    yield element("kernel", boot.kernel)
    yield element("initrd", boot.initrd)
    yield element("cmdline", " ".join(boot.arguments))


def _cpu(domain_type: Literal["kvm", "qemu"]) -> etree._Element:
    """Everything the host's CPU, or the emulator, can do."""
    if domain_type == "kvm":
        return element("cpu", {"mode": "host-passthrough", "check": "none", "migratable": "on"})
    return element("cpu", {"mode": "maximum", "check": "none"})


def _clock() -> etree._Element:
    """Ticks that a busy host dropped are made up for."""
    return element(
        "clock",
        element("timer", {"name": "rtc", "tickpolicy": "catchup"}),
        element("timer", {"name": "pit", "tickpolicy": "delay"}),
        element("timer", {"name": "hpet", "present": "no"}),
    )


def _devices(definition: DomainDefinition) -> etree._Element:
    """Virtio devices, a serial console, an agent channel; no graphics."""
    domain = definition.machine.domain
    networking, mounts = domain.networking, domain.mount_points
    plugged = len(networking) + len(definition.disks) + len(mounts)
    ports = plugged + _FIXED_PCI_DEVICES + SPARE_ROOT_PORTS
    return element(
        "devices",
        root_disk(
            definition.root,
            definition.root_format,
            definition.backing,
            definition.security_models,
        ),
        *further_disks(definition.disks),
        element("controller", {"type": "usb", "model": "none"}),
        element("controller", {"type": "pci", "index": "0", "model": "pcie-root"}),
        *(element("controller", {"type": "pci", "model": "pcie-root-port"}) for _ in range(ports)),
        *(shared_directory(mount) for mount in mounts),
        *(_interface(interface) for interface in networking),
        element("serial", {"type": "pty"}, element("target", {"type": "isa-serial", "port": "0"})),
        element("console", {"type": "pty"}, element("target", {"type": "serial", "port": "0"})),
        element(
            "channel",
            {"type": "unix"},
            element("target", {"type": "virtio", "name": "org.qemu.guest_agent.0"}),
        ),
        # Nobody looks at it, but without a VGA BIOS, GRUB's graphical terminal, which is
        # what Guix configures unless told otherwise, never gets to the kernel.
        element("video", {}, element("model", {"type": "vga"})),
        element("memballoon", {"model": "virtio"}, element("stats", {"period": "5"})),
        element(
            "rng", {"model": "virtio"}, element("backend", {"model": "random"}, "/dev/urandom")
        ),
    )


def _interface(networking: Networking) -> etree._Element:
    return element(
        "interface",
        {"type": "network"},
        element("mac", {"address": networking.mac_address}),
        element("source", {"network": networking.network}),
        element("model", {"type": "virtio"}),
    )

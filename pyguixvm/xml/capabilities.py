# SPDX-License-Identifier: GPL-3.0-or-later
"""What a hypervisor offers (https://libvirt.org/formatcaps.html)."""

from __future__ import annotations

import re
from typing import Literal

import msgspec
from lxml import etree

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.xml.text import parse, render


class HostCapabilities(msgspec.Struct, frozen=True):
    """The host's ARCHITECTURE, the domain types for it, and its security models.

    QEMU_USER is the number of the user as whom guests run, None where that is the
    user of the hypervisor itself.
    """

    architecture: str
    domain_types: frozenset[str]
    security_models: tuple[str, ...]
    qemu_user: int | None = None


# A label of the model "dac": user and group.
_DAC_LABEL = re.compile(r"\+(\d+):\+\d+")


def read_capabilities(xml: str) -> HostCapabilities:
    """Return what the capabilities XML says about guests of the host's own architecture."""
    capabilities = parse(xml)
    architecture = capabilities.findtext("host/cpu/arch", default="x86_64")
    offered = capabilities.findall(f"guest/arch[@name='{architecture}']/domain")
    models = capabilities.findall("host/secmodel/model")
    return HostCapabilities(
        architecture=architecture,
        domain_types=frozenset(domain.get("type", "") for domain in offered),
        # "none" is libvirt's word for a driver that does nothing.
        security_models=tuple(m.text for m in models if m.text and m.text != "none"),
        qemu_user=_qemu_user(capabilities),
    )


def read_host_uuid(xml: str) -> str | None:
    """Return the host's UUID out of the capabilities XML, None where it has none."""
    return parse(xml).findtext("host/uuid")


def host_cpu(xml: str) -> str | None:
    """Return the processor of the host out of the capabilities XML, None where it is not said."""
    cpu = parse(xml).find("host/cpu")
    return None if cpu is None else render(cpu)


def _qemu_user(capabilities: etree._Element) -> int | None:
    for label in capabilities.findall("host/secmodel[model='dac']/baselabel"):
        found = _DAC_LABEL.fullmatch(label.text or "")
        if found:
            return int(found[1])
    return None


def maximum_vcpus(domain_capabilities: str) -> int | None:
    """Return how many vCPUs a domain may have (https://libvirt.org/formatdomaincaps.html)."""
    vcpu = parse(domain_capabilities).find("vcpu")
    return None if vcpu is None else int(vcpu.get("max", 0)) or None


def loaders(domain_capabilities: str) -> frozenset[str]:
    """Return the file names of the firmware that a domain may start by."""
    found = parse(domain_capabilities).findall("os/loader/value")
    return frozenset(value.text for value in found if value.text)


def choose_domain_type(
    machine: VirtualMachine, offered: frozenset[str], override: str | None = None
) -> Literal["kvm", "qemu"]:
    """Return the domain type for MACHINE: kvm where OFFERED, unless it says otherwise.

    OVERRIDE (the user's PYGUIXVM_VIRT_TYPE) goes before the declaration.
    Raises `RequestRefusedError` for a type that is not offered or unknown.
    """
    wanted = override or machine.domain.virtualization
    source = "PYGUIXVM_VIRT_TYPE" if override else f"machine '{machine.name}'"
    location = None if override else str(machine.location)
    if wanted not in ("auto", "kvm", "qemu"):
        raise RequestRefusedError(
            f"{source} asks for virtualization '{wanted}'; allowed are auto, kvm and qemu"
        )
    for candidate in ("kvm", "qemu"):
        if wanted in ("auto", candidate) and candidate in offered:
            return candidate
    if wanted == "auto":
        raise RequestRefusedError(
            f"{source} can run neither with kvm nor with qemu: the hypervisor offers "
            f"{_listed(offered)}",
            hint="install QEMU on the hypervisor's host",
            location=location,
        )
    raise RequestRefusedError(
        f"{source} asks for virtualization '{wanted}', but the hypervisor offers "
        f"{_listed(offered)}",
        hint="load the kvm module (kvm_intel or kvm_amd) and enable virtualization in the "
        "host's firmware, or declare (virtualization 'auto)"
        if wanted == "kvm"
        else None,
        location=location,
    )


def _listed(offered: frozenset[str]) -> str:
    return ", ".join(sorted(offered)) or "nothing"

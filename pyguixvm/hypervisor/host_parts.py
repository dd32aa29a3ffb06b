# SPDX-License-Identifier: GPL-3.0-or-later
"""Parts of a definition that are the host's, and go when that is upgraded: QEMU, its firmware.

On Guix System they are store items, which the garbage collector takes.
"""

from __future__ import annotations

import threading
from pathlib import PurePosixPath

import libvirt

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.interruption import taken
from pyguixvm.model.observation import Hardware, HostPart, ObservedDomain
from pyguixvm.xml.capabilities import loaders

_OF_QEMU = frozenset({"kvm", "qemu"})
# What libvirt says of an emulator that is not there, or does not have what is asked for.
_NOT_OFFERED = (
    libvirt.VIR_ERR_INVALID_ARG,
    libvirt.VIR_ERR_CONFIG_UNSUPPORTED,
    libvirt.VIR_ERR_INTERNAL_ERROR,
    libvirt.VIR_ERR_SYSTEM_ERROR,
)


class HostParts:
    """What the host of CONNECTION has of what definitions name: each is asked for once."""

    def __init__(self, connection: Connection) -> None:
        """Ask for nothing yet."""
        self._connection = connection
        self._lock = threading.Lock()
        self._known: dict[tuple[str | None, str | None, str], frozenset[str] | None] = {}

    def lost(self, defined: Hardware) -> tuple[HostPart, ...]:
        """Return what the domain that is DEFINED cannot start without, and is not there.

        Raises HypervisorError.
        """
        kind = defined.domain_type
        if defined.emulator is None or kind not in _OF_QEMU:
            return ()
        offered = self._loaders(defined.emulator, defined.machine_type, kind)
        if offered is None:
            gone = self._loaders(defined.emulator, None, kind) is None
            emulator = None if gone else defined.emulator
            old = self._loaders(emulator, defined.machine_type, kind) is None
            # With neither, nothing is known but that nothing can be started here.
            if old and self._loaders(emulator, None, kind) is None:
                return ()
            return (*(("emulator",) if gone else ()), *(("machine-type",) if old else ()))
        loader = defined.loader
        # One that a person brought is nobody's business.
        ours = loader is not None and PurePosixPath(loader).is_relative_to("/gnu/store")
        return ("firmware",) if ours and loader not in offered else ()

    def _loaders(
        self, emulator: str | None, machine: str | None, kind: str
    ) -> frozenset[str] | None:
        """Return the firmware there is for MACHINE of EMULATOR, None if there is no such thing."""
        key = (emulator, machine, kind)
        # Of those that look at domains at once, one asks for what all want to know.
        with taken(self._lock), explained("read what the hypervisor's QEMU offers"):
            if key not in self._known:
                try:
                    xml = self._connection.handle.getDomainCapabilities(
                        emulator, None, machine, kind
                    )
                except libvirt.libvirtError as error:
                    if not is_code(error, *_NOT_OFFERED):
                        raise
                    self._known[key] = None
                else:
                    self._known[key] = loaders(xml)
            return self._known[key]


def lost_parts(
    parts: HostParts, observed: ObservedDomain, before: ObservedDomain | None
) -> tuple[HostPart, ...]:
    """Return which PARTS of the host OBSERVED, which is ours, does not find any more.

    BEFORE is what was known of it shortly before, if anything.
    """
    if before is not None and _names_alike(observed.defined, before.defined):
        return before.lost
    return parts.lost(observed.defined)


def _names_alike(one: Hardware, other: Hardware) -> bool:
    """Whether both are defined with the same parts of the host."""
    return all(
        getattr(one, part) == getattr(other, part)
        for part in ("domain_type", "emulator", "machine_type", "loader")
    )

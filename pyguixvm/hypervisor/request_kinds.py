# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of libvirt's requests by their names, which are those of its methods."""

from __future__ import annotations

import re

# How long (seconds) a request may take that needs neither disks nor guests.
PATIENCE = 30.0
# What takes as long as disks, guests and QEMU's start take (seconds, too), while
# other requests are answered.
_LONG = 900.0
_TAKING_LONG = frozenset({
    "attachDeviceFlags",
    "blockResize",
    "build",
    "create",
    "createWithFlags",
    "createXML",
    "delete",
    "destroy",
    "detachDeviceFlags",
    # Of a libvirtd that starts every QEMU to find out.
    "getCapabilities",
    "getDomainCapabilities",
    "reboot",
    "refresh",
    "resize",
    "shutdownFlags",
    "snapshotCreateXML",
    "undefineFlags",
    "updateDeviceFlags",
    "upload",
    "wipe",
})  # fmt: skip
# What takes as long as all that a guest writes to takes over a line.
_TAKING_LONGEST = frozenset({"migrate3", "migrateToURI3"})
_LONGEST = 7 * 24 * 3600.0
# What changes nothing, wherever a line was cut while it was asked: it is asked again.  It is
# called so, or one of these.
_LOOK = re.compile("(get|has|is|list|lookup)[A-Z]|.*LookupBy[A-Z]")
_LOOKS = frozenset({
    "DHCPLeases",
    "XMLDesc",
    "autostart",
    "blockInfo",
    "blockJobInfo",
    # Of a connection that is gone, nobody hears anything.
    "domainEventRegisterAny",
    "info",
    "interfaceAddresses",
    "jobInfo",
    "jobStats",
    "memoryStats",
    "metadata",
    "path",
    "refresh",
    "state",
    "value",
    "vcpusFlags",
})  # fmt: skip


def seconds_for(name: str, usual: float) -> float:
    """Return how many seconds the request NAME may take, where most have the USUAL ones."""
    if name in _TAKING_LONGEST:
        return _LONGEST
    return _LONG if name in _TAKING_LONG else usual


def only_looks(name: str) -> bool:
    """Whether the request NAME changes nothing."""
    return name in _LOOKS or _LOOK.match(name) is not None

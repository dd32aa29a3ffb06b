# SPDX-License-Identifier: GPL-3.0-or-later
"""What domains and pools use, as libvirt counts it.

Libvirt counts from a guest's start, so that counters begin anew with it.  What was not told is
None: it is unknown, not nothing.
"""

from __future__ import annotations

import msgspec


class DiskStatistics(msgspec.Struct, frozen=True, rename="kebab"):
    """Of the disk TARGET: sizes in bytes, times in seconds; SOURCE is what it writes to."""

    target: str
    source: str | None = None
    read_bytes: int | None = None
    read_requests: int | None = None
    read_seconds: float | None = None
    write_bytes: int | None = None
    write_requests: int | None = None
    write_seconds: float | None = None
    flush_requests: int | None = None
    allocation: int | None = None
    capacity: int | None = None
    physical: int | None = None


class InterfaceStatistics(msgspec.Struct, frozen=True, rename="kebab"):
    """Of the interface that the host calls NAME; DROPS and ERRORS are packets."""

    name: str
    received_bytes: int | None = None
    received_packets: int | None = None
    received_errors: int | None = None
    received_drops: int | None = None
    sent_bytes: int | None = None
    sent_packets: int | None = None
    sent_errors: int | None = None
    sent_drops: int | None = None


class Statistics(msgspec.Struct, frozen=True, rename="kebab"):
    """Of a domain: STATE and REASON are libvirt's numbers, sizes are bytes, times seconds.

    MEMORY is what it has now, RESIDENT what that takes of the host, UNUSED what its guest says
    that nothing uses, and USABLE what it could use without swapping.
    """

    state: int
    reason: int = 0
    cpu_seconds: float | None = None
    cpus: int | None = None
    memory: int | None = None
    maximum_memory: int | None = None
    resident: int | None = None
    unused: int | None = None
    usable: int | None = None
    disks: tuple[DiskStatistics, ...] = ()
    interfaces: tuple[InterfaceStatistics, ...] = ()


class PoolSpace(msgspec.Struct, frozen=True, rename="kebab"):
    """The CAPACITY, ALLOCATION and AVAILABLE bytes of the pool NAME, if it is ACTIVE."""

    name: str
    active: bool
    capacity: int = 0
    allocation: int = 0
    available: int = 0

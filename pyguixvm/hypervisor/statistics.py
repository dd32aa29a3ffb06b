# SPDX-License-Identifier: GPL-3.0-or-later
"""What all domains use, in one request, which waits for none of them; and all pools."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import libvirt

from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.errors import explained, is_code
from pyguixvm.model.statistics import (
    DiskStatistics,
    InterfaceStatistics,
    PoolSpace,
    Statistics,
)

_KIB = 1024
_NANOSECONDS = 1e9
# Of what counts what: libvirt's words for our fields.
_DISK = {
    "rd.bytes": "read_bytes", "rd.reqs": "read_requests", "wr.bytes": "write_bytes",
    "wr.reqs": "write_requests", "fl.reqs": "flush_requests", "allocation": "allocation",
    "capacity": "capacity", "physical": "physical",
}  # fmt: skip
_TIMES = {"rd.times": "read_seconds", "wr.times": "write_seconds"}
_INTERFACE = {
    f"{way}.{libvirts}": f"{words}_{ours}"
    for way, words in (("rx", "received"), ("tx", "sent"))
    for libvirts, ours in (
        ("bytes", "bytes"), ("pkts", "packets"), ("errs", "errors"), ("drop", "drops"),
    )
}  # fmt: skip


def statistics(connection: Connection) -> dict[str, Statistics]:
    """Return what each domain uses, by its UUID.

    A domain that something else works at tells its state alone: nobody waits for it.
    """
    with explained("ask what the domains use"):
        return {domain.UUIDString(): _statistics(told) for domain, told in _told(connection)}


def pool_spaces(connection: Connection) -> tuple[PoolSpace, ...]:
    """Return how full the pools are, as libvirt knows without looking at their files again."""
    with explained("ask how full the pools are"):
        return tuple(_spaces(connection))


def _told(connection: Connection) -> list[tuple[libvirt.virDomain, Mapping[str, Any]]]:
    """Ask for everything, and to wait for nothing; drivers that cannot are asked for less."""
    ask = partial(connection.handle.getAllDomainStats, 0)
    try:
        found: list[tuple[libvirt.virDomain, Mapping[str, Any]]] = ask(
            libvirt.VIR_CONNECT_GET_ALL_DOMAINS_STATS_NOWAIT
        )
    except libvirt.libvirtError as error:
        if not is_code(error, libvirt.VIR_ERR_INVALID_ARG, libvirt.VIR_ERR_NO_SUPPORT):
            raise
        found = [] if is_code(error, libvirt.VIR_ERR_NO_SUPPORT) else ask(0)
    return found


def _statistics(told: Mapping[str, Any]) -> Statistics:
    kept = told.get("cpu.time")
    return Statistics(
        state=told.get("state.state", libvirt.VIR_DOMAIN_NOSTATE),
        reason=told.get("state.reason", 0),
        cpu_seconds=None if kept is None else kept / _NANOSECONDS,
        cpus=told.get("vcpu.current"),
        memory=_bytes(told, "balloon.current"),
        maximum_memory=_bytes(told, "balloon.maximum"),
        resident=_bytes(told, "balloon.rss"),
        unused=_bytes(told, "balloon.unused"),
        usable=_bytes(told, "balloon.usable"),
        disks=tuple(map(partial(_disk, told), _numbers(told, "block"))),
        interfaces=tuple(map(partial(_interface, told), _numbers(told, "net"))),
    )


def _bytes(told: Mapping[str, Any], key: str) -> int | None:
    return told[key] * _KIB if key in told else None


def _numbers(told: Mapping[str, Any], kind: str) -> Iterator[str]:
    return (f"{kind}.{number}." for number in range(told.get(f"{kind}.count", 0)))


def _disk(told: Mapping[str, Any], prefix: str) -> DiskStatistics:
    counted = {ours: told[prefix + key] for key, ours in _DISK.items() if prefix + key in told}
    times = {
        ours: told[prefix + key] / _NANOSECONDS
        for key, ours in _TIMES.items()
        if prefix + key in told
    }
    return DiskStatistics(
        target=told.get(f"{prefix}name", "?"),
        source=told.get(f"{prefix}path"),
        **counted,
        **times,
    )


def _interface(told: Mapping[str, Any], prefix: str) -> InterfaceStatistics:
    counted = {ours: told[prefix + k] for k, ours in _INTERFACE.items() if prefix + k in told}
    return InterfaceStatistics(name=told.get(f"{prefix}name", "?"), **counted)


def _spaces(connection: Connection) -> Iterator[PoolSpace]:
    for pool in connection.handle.listAllStoragePools(0):
        with suppress(libvirt.libvirtError):  # removed since
            state, capacity, allocation, available = pool.info()
            active = state == libvirt.VIR_STORAGE_POOL_RUNNING
            yield PoolSpace(pool.name(), active, capacity, allocation, available)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What libvirt counts of all domains, by the names of the exporters that people know."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from prometheus_client.core import Metric

from pyguixvm.exporter.table import Table, counter, gauge
from pyguixvm.exporter.view import FleetView, HypervisorView
from pyguixvm.model.statistics import Statistics

_DOMAIN = ("hypervisor", "domain")
_DISK = (*_DOMAIN, "target_device", "source_file")
_INTERFACE = (*_DOMAIN, "target_device")
_POOL = ("hypervisor", "pool")
_Kind = Literal["gauge", "counter"]
# Name, kind, our field, meaning.
_INFO: tuple[tuple[str, _Kind, str, str], ...] = (
    ("memory_usage_bytes", "gauge", "memory", "The memory that a domain has now."),
    ("maximum_memory_bytes", "gauge", "maximum_memory", "The memory that it can be given."),
    ("virtual_cpus", "gauge", "cpus", "How many processors it has."),
    ("cpu_time_seconds", "counter", "cpu_seconds", "The time of processors that it took."),
    ("vstate", "gauge", "state", "What it is in: 1 running, 3 paused, 5 shut off, 6 crashed."),
)
_MEMORY: tuple[tuple[str, _Kind, str, str], ...] = (
    ("rss_bytes", "gauge", "resident", "What a domain's memory takes of its host."),
    ("unused_bytes", "gauge", "unused", "What its guest leaves unused."),
    ("usable_bytes", "gauge", "usable", "What its guest could use without swapping."),
)
_BLOCK: tuple[tuple[str, _Kind, str, str], ...] = (
    ("read_bytes", "counter", "read_bytes", "What was read."),
    ("read_requests", "counter", "read_requests", "How often something was read."),
    ("read_time_seconds", "counter", "read_seconds", "How long that took."),
    ("write_bytes", "counter", "write_bytes", "What was written."),
    ("write_requests", "counter", "write_requests", "How often something was written."),
    ("write_time_seconds", "counter", "write_seconds", "How long that took."),
    ("flush_requests", "counter", "flush_requests", "How often it was flushed."),
    ("capacity_bytes", "gauge", "capacity", "How large it is."),
    ("allocation_bytes", "gauge", "allocation", "How much of it was ever written to."),
    ("physicalsize_bytes", "gauge", "physical", "How large its file is."),
)
_TRAFFIC: tuple[tuple[str, _Kind, str, str], ...] = tuple(
    (f"{way}_{what}", "counter", f"{ours}_{what}", f"{what.capitalize()} that were {ours}.")
    for way, ours in (("receive", "received"), ("transmit", "sent"))
    for what in ("bytes", "packets", "errors", "drops")
)  # fmt: skip
_SPACE: tuple[tuple[str, _Kind, str, str], ...] = (
    ("capacity_bytes", "gauge", "capacity", "How large a pool is."),
    ("allocation_bytes", "gauge", "allocation", "How much of it is used."),
    ("available_bytes", "gauge", "available", "How much of it is free."),
)


def libvirt_metrics(view: FleetView) -> Iterator[Metric]:
    """Yield what libvirt counts at the hypervisors of VIEW."""
    up = gauge("libvirt_up", "Whether libvirt answers.", ("hypervisor",))
    kinds = {
        "domain_info": (_INFO, _DOMAIN),
        "domain_memory_stats": (_MEMORY, _DOMAIN),
        "domain_block_stats": (_BLOCK, _DISK),
        "domain_interface_stats": (_TRAFFIC, _INTERFACE),
        "pool_info": (_SPACE, _POOL),
    }
    tables = {
        kind: {
            field: (counter if what == "counter" else gauge)(f"libvirt_{kind}_{name}", said, labels)
            for name, what, field, said in fields
        }
        for kind, (fields, labels) in kinds.items()
    }
    for each in view.hypervisors:
        up.add((each.uri,), each.error is None)
        # What was counted before it went away is no news.
        if each.error is None:
            _of_a_hypervisor(each, tables)
    yield up.metric()
    for fields in tables.values():
        for table in fields.values():
            yield table.metric()


def _of_a_hypervisor(view: HypervisorView, tables: dict[str, dict[str, Table]]) -> None:
    names = {each.uuid: name for name, each in view.observation.domains.items()} if (
        view.observation) else {}  # fmt: skip
    for uuid, used in view.statistics.items():
        # One that came since is named with the next look at everything.
        if uuid in names:
            _of_a_domain(used, (view.uri, names[uuid]), tables)
    for space in view.spaces:
        if space.active:
            _add(tables["pool_info"], space, (view.uri, space.name))


def _of_a_domain(
    used: Statistics, key: tuple[str, str], tables: dict[str, dict[str, Table]]
) -> None:
    _add(tables["domain_info"], used, key)
    _add(tables["domain_memory_stats"], used, key)
    for disk in used.disks:
        _add(tables["domain_block_stats"], disk, (*key, disk.target, disk.source or ""))
    for interface in used.interfaces:
        _add(tables["domain_interface_stats"], interface, (*key, interface.name))


def _add(tables: dict[str, Table], counted: object, labels: tuple[str, ...]) -> None:
    for field, table in tables.items():
        table.add(labels, getattr(counted, field))

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is known of a fleet, as Prometheus reads it.

What libvirt counts has the names that other exporters of libvirt gave it, so that their
dashboards go on working; what only we know begins with ``pyguixvm_``.  What is unknown is
absent: it is not 0.
"""

from __future__ import annotations

from collections.abc import Iterator

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.registry import Collector

from pyguixvm.exporter.journal import RESULTS
from pyguixvm.exporter.libvirt_metrics import libvirt_metrics
from pyguixvm.exporter.table import Table, gauge
from pyguixvm.exporter.view import FleetView
from pyguixvm.model.guest import Inside
from pyguixvm.printable import printable

CONTENT_TYPE = CONTENT_TYPE_LATEST
_MACHINE = ("hypervisor", "machine")
_GONE = frozenset({"missing", "unreachable", "not declared"})


class _Once(Collector):
    """Tells of one VIEW."""

    def __init__(self, view: FleetView, now: float, seconds: float) -> None:
        self._view = view
        self._now = now
        self._seconds = seconds

    def collect(self) -> Iterator[Metric]:
        yield from libvirt_metrics(self._view)
        yield from _of_machines(self._view, self._now)
        yield from _of_guests(self._view)
        yield from _of_the_exporter(self._view, self._now, self._seconds)


def exposition(view: FleetView, now: float, seconds: float) -> bytes:
    """Return VIEW as text for Prometheus, at NOW (since the epoch); to ask took SECONDS."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Once(view, now, seconds))
    text: bytes = generate_latest(registry)
    return text


def _of_machines(view: FleetView, now: float) -> Iterator[Metric]:
    as_declared = gauge(
        "pyguixvm_machine_as_declared", "Whether a machine is there, and nothing differs.", _MACHINE
    )
    present = gauge("pyguixvm_machine_present", "Whether a machine is defined.", _MACHINE)
    ready = gauge("pyguixvm_machine_ready", "Whether it runs, and was seen ready.", _MACHINE)
    status = gauge("pyguixvm_machine_status", "1 for how it compares.", (*_MACHINE, "status"))
    state = gauge(
        "pyguixvm_machine_state", "1 for what its domain is in, and why.",
        (*_MACHINE, "state", "reason"),
    )  # fmt: skip
    drift = gauge("pyguixvm_machine_drift_fields", "How many fields differ.", _MACHINE)
    pending = gauge(
        "pyguixvm_machine_pending_restart", "Whether a change waits for its restart.", _MACHINE
    )
    generation = gauge(
        "pyguixvm_machine_generation_info", "Which generation is deployed, was booted, and runs.",
        (*_MACHINE, "deployed", "booted", "running", "label"),
    )  # fmt: skip
    deployed = gauge(
        "pyguixvm_machine_last_deploy_timestamp_seconds", "When its last deploy began.", _MACHINE
    )
    for each in view.statuses:
        # A hypervisor that does not answer says nothing of its machines.
        if each.status == "unreachable":
            continue
        key = (each.hypervisor or "", each.name)
        as_declared.add(key, each.status in {"deployed", "not seen ready", "stopped"})
        present.add(key, each.status not in _GONE)
        status.add((*key, each.status), 1)
        drift.add(key, len(each.differences))
        if each.state is None:
            continue
        ready.add(key, each.ready)
        state.add((*key, each.state, each.reason or ""), 1)
        pending.add(key, any(difference.pending for difference in each.differences))
        booted, runs = (str(n or "unknown") for n in (each.guest.booted, each.guest.generation))
        generation.add((*key, str(each.generation or ""), booted, runs, each.label or ""), 1)
        if each.deploy is not None and (when := seconds_of(each.deploy.date)) is not None:
            deployed.add(key, when)
    for table in (as_declared, present, ready, status, state, drift, pending, generation, deployed):
        yield table.metric()
    yield from _counted(view, now)


def _counted(view: FleetView, now: float) -> Iterator[Metric]:
    deploys = CounterMetricFamily(
        "pyguixvm_machine_deploys", "Deploys that ended, by how.", labels=("machine", "result")
    )
    # What did not happen yet is told as 0: a counter that begins at 1 never increased.
    counts: dict[tuple[str, str], int] = {
        (each.name, ended): 0 for each in view.statuses for ended in RESULTS
    }
    for (machine, result), count in sorted({**counts, **view.deploys}.items()):
        deploys.add_metric((printable(machine), result.replace(" ", "_")), count)
    yield deploys
    age = gauge(
        "pyguixvm_commit_age_seconds",
        "How long ago the commit of its configuration was made that a machine is of.",
        (*_MACHINE, "of"),
    )
    for each in view.statuses:
        for of, origin in (
            ("declared", each.origins.declared),
            ("deployed", each.origins.deployed),
        ):
            made = view.committed.get(origin.commit or "") if origin else None
            if made is not None:
                age.add((each.hypervisor or "", each.name, of), max(0.0, now - made))
    yield age.metric()


def _of_guests(view: FleetView) -> Iterator[Metric]:
    deployed = gauge(
        "pyguixvm_machine_guest_as_deployed",
        "Whether the guest runs what was deployed; absent where that cannot be seen.", _MACHINE,
    )  # fmt: skip
    said = gauge("pyguixvm_machine_guest_answers", "Whether the guest's agent answers.", _MACHINE)
    uptime = gauge("pyguixvm_machine_guest_uptime_seconds", "How long the guest runs.", _MACHINE)
    clock = gauge(
        "pyguixvm_machine_guest_clock_offset_seconds", "How far its clock is ahead.", _MACHINE
    )
    failed = gauge(
        "pyguixvm_machine_guest_failed_services", "How many of its services failed.", _MACHINE
    )
    size = gauge(
        "pyguixvm_machine_guest_filesystem_size_bytes", "How large a file system of it is.",
        (*_MACHINE, "mountpoint"),
    )  # fmt: skip
    used = gauge(
        "pyguixvm_machine_guest_filesystem_used_bytes", "How much of it is used.",
        (*_MACHINE, "mountpoint"),
    )  # fmt: skip
    for each in view.statuses:
        if each.state != "running":
            continue
        key = (each.hypervisor or "", each.name)
        if each.guest.verdict != "unknown":
            deployed.add(key, each.guest.verdict in {"as deployed", "waiting for restart"})
        inside = each.inside
        said.add(key, inside is not None)
        if inside is not None:
            _said(inside, key, (uptime, clock, failed, size, used))
    for table in (deployed, said, uptime, clock, failed, size, used):
        yield table.metric()


def _said(inside: Inside, key: tuple[str, str], tables: tuple[Table, ...]) -> None:
    uptime, clock, failed, size, used = tables
    uptime.add(key, inside.uptime)
    clock.add(key, inside.clock)
    failed.add(key, None if inside.failed is None else len(inside.failed))
    for each in inside.file_systems or ():
        size.add((*key, each.target), each.total)
        used.add((*key, each.target), each.used)


def _of_the_exporter(view: FleetView, now: float, seconds: float) -> Iterator[Metric]:
    up = gauge("pyguixvm_hypervisor_up", "Whether a hypervisor answers.", ("hypervisor",))
    old = gauge(
        "pyguixvm_hypervisor_looked_seconds",
        "How long ago everything at a hypervisor was looked at.", ("hypervisor",),
    )  # fmt: skip
    took = gauge(
        "pyguixvm_hypervisor_look_duration_seconds", "How long that took.", ("hypervisor",)
    )
    free = gauge("pyguixvm_pool_free_bytes", "What is free in a pool.", ("hypervisor", "pool"))
    size = gauge("pyguixvm_pool_size_bytes", "How large a pool is.", ("hypervisor", "pool"))
    for each in view.hypervisors:
        up.add((each.uri,), each.error is None)
        if each.looked:
            old.add((each.uri,), max(0.0, now - each.looked))
            took.add((each.uri,), each.seconds)
        for space in each.spaces:
            if space.active:
                free.add((each.uri, space.name), space.available)
                size.add((each.uri, space.name), space.capacity)
    for table in (up, old, took, free, size):
        yield table.metric()
    evaluates = gauge(
        "pyguixvm_configuration_evaluates", "Whether a configuration evaluates.", ("config",)
    )
    for configuration in view.configurations:
        evaluates.add((configuration.path,), configuration.error is None)
    yield evaluates.metric()
    errors = CounterMetricFamily(
        "pyguixvm_evaluation_errors", "Evaluations that failed.", labels=("config",)
    )
    for configuration in view.configurations:
        path = configuration.path
        errors.add_metric((path,), view.evaluation_errors.get(path, 0))
    yield errors
    yield GaugeMetricFamily(
        "pyguixvm_scrape_duration_seconds", "How long this scrape took to ask.", value=seconds
    )


def seconds_of(date: str) -> float | None:
    """Return DATE (ISO 8601) in seconds since the epoch, None if it is none."""
    from datetime import datetime

    try:
        return datetime.fromisoformat(date).timestamp()
    except ValueError:
        return None

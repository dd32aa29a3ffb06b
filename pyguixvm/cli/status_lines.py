# SPDX-License-Identifier: GPL-3.0-or-later
"""The status of a machine in lines for people; pure."""

from __future__ import annotations

from collections.abc import Iterator

from pyguixvm.cli.commits import commits
from pyguixvm.cli.differences import Paint, difference_lines, plain
from pyguixvm.model.durations import format_duration
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.in_words import shortened
from pyguixvm.plan.origins import Origin, Origins
from pyguixvm.plan.rates import Rates
from pyguixvm.plan.status import MachineStatus, PastDeploy
from pyguixvm.printable import printable

_SIGNS = {
    "deployed": " ",
    "drifted": "~",
    "pending restart": "~",
    "not seen ready": "~",
    "stopped": "~",
}
_GUEST = {
    "as deployed": "runs what was deployed",
    "booted as deployed": "booted what was deployed, and what it runs since is unknown",
    "reconfigured": "was reconfigured by hand",
    "another generation": "runs another generation",
    "waiting for restart": "runs what was deployed, and waits for a restart to boot it",
    "unknown": "what it runs is unknown",
}


def status_lines(
    status: MachineStatus, paint: Paint = plain, measured: Rates | None = None, *, all_: bool
) -> Iterator[str]:
    """Yield the lines for STATUS; ALL_: with what it uses, and MEASURED what it does just now."""
    generation = f", generation {status.generation}" if status.generation else ""
    if status.status in {"drifted", "pending restart"} and status.state == "shut off":
        generation += ", shut off"
    generation += "".join(f", {printable(address)}" for address in status.addresses)
    detail = f": {printable(status.detail)}" if status.detail else ""
    sign, name = _SIGNS.get(status.status, "x"), printable(status.name)
    yield f"{sign} {name}: {status.status}{generation}{detail}"
    for line in difference_lines(status.differences, paint):
        yield f"    {line}"
    if status.guest.verdict in {"reconfigured", "another generation"}:
        yield f"    its guest {_guest(status)}"
    for device in status.foreign:
        yield f"    {printable(device)}: not ours"
    if all_:
        for line in _details(status, measured or Rates()):
            yield f"    {printable(line)}"


def _details(status: MachineStatus, measured: Rates) -> Iterator[str]:
    if status.state is not None:
        reason = f", {status.reason}" if status.reason else ""
        yield f"state: {status.state}{reason}{_uptime(status)}"
    if status.state not in {None, "shut off"}:
        yield f"guest: {_guest(status)}"
    yield from _origins(status.origins)
    yield from _used(status, measured)
    if status.deploy is not None:
        yield f"last deploy: {_deploy(status.deploy)}"
    for line in difference_lines(status.ignored):
        yield f"ignored: {line}"


def _origins(origins: Origins) -> Iterator[str]:
    for what in ("declared", "deployed", "booted", "running"):
        origin: Origin | None = getattr(origins, what)
        said = [*_origin(origin)] if origin else []
        if said:
            yield f"{what}: {', '.join(said)}"


def _origin(origin: Origin) -> Iterator[str]:
    if origin.generation is not None:
        yield f"generation {origin.generation} of {origin.date}"
    told = commits(origin.provenance)
    if told != "-":
        yield told


def _guest(status: MachineStatus) -> str:
    said = _GUEST.get(status.guest.verdict, status.guest.verdict)
    number = f", {status.guest.generation}" if status.guest.generation else ""
    system = (status.inside.running if status.inside else None) or status.booted
    other = status.guest.verdict in {"reconfigured", "another generation"}
    return f"{said}{number}{f': {shortened(system)}' if other and system else ''}"


def _uptime(status: MachineStatus) -> str:
    seconds = status.inside.uptime if status.inside else None
    return "" if seconds is None else f", up for {format_duration(seconds)}"


def _used(status: MachineStatus, measured: Rates) -> Iterator[str]:
    used = status.statistics
    if used is None or status.state == "shut off":
        return
    if used.cpu_seconds is not None:
        now = "" if measured.cpu is None else f", {100 * measured.cpu:.0f} % of one now"
        yield f"cpu: {used.cpus or '?'}, {format_duration(used.cpu_seconds)} used{now}"
    if used.memory is not None:
        unused = "" if used.unused is None else f", {format_size(used.unused)} unused"
        yield f"memory: {format_size(used.memory)}{unused}"
    for disk in used.disks:
        if disk.allocation is not None and disk.capacity is not None:
            yield (
                f"disk {disk.target}: {format_size(disk.allocation)} of "
                f"{format_size(disk.capacity)} written"
            )
    if measured.read is not None and measured.written is not None:
        yield f"disks now: {_rate(measured.read)} read, {_rate(measured.written)} written"
    if measured.received is not None and measured.sent is not None:
        yield f"network now: {_rate(measured.received)} received, {_rate(measured.sent)} sent"
    if status.space is not None and status.space.active:
        yield f"pool {status.space.name}: {format_size(status.space.available)} free"


def _rate(bytes_a_second: float) -> str:
    return f"{format_size(round(bytes_a_second))}/s"


def _deploy(deploy: PastDeploy) -> str:
    by = f" by {deploy.by}" if deploy.by else ""
    took = "" if deploy.seconds is None else f", in {deploy.seconds:.0f} s"
    return f"generation {deploy.generation}, {deploy.date}{by}{took}: {deploy.ended}"

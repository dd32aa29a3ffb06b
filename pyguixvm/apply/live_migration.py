# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine moves to another hypervisor while its guest runs.

What nobody writes to is sent first, what is below the root its guest is on included.  Libvirt
brings the rest, and the guest; that one of its daemons has it in the end, and the other has not,
is libvirt's affair.  What is left where it was goes as after any move.
"""

from __future__ import annotations

import time
from collections.abc import Iterable
from shlex import quote

import msgspec

from pyguixvm.apply.migration import arriving, defined, place_at, require_virtualization
from pyguixvm.apply.moved_volumes import Move, sent
from pyguixvm.apply.space_there import space_for
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import Emit, Notice, PhaseProgress, phase
from pyguixvm.hypervisor import domains, firmware_variables, migration, networks
from pyguixvm.hypervisor.connection import identity
from pyguixvm.hypervisor.domains import Domain
from pyguixvm.hypervisor.migration import Destination, Line
from pyguixvm.model.applied import Metadata
from pyguixvm.model.arrival import Arrival, SentVariables, SentVolume
from pyguixvm.model.sizes import format_size
from pyguixvm.model.usage import Address
from pyguixvm.model.volume_names import file_name, variables_volume
from pyguixvm.plan.migration import root_layers
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.moved import Place, moved_xml

# After how long (seconds) it is told that nothing arrives.  QEMU tells of disks by 16 MiB each,
# and waits for a line that is cut for as long as TCP does: a quarter of an hour (tcp(7)).
STANDSTILL_SECONDS = 60


def move_live(
    move: Move,
    data: Iterable[Address],
    *,
    autostart: bool,
    line: Line = Line(),  # noqa: B008
) -> None:
    """Move the machine of MOVE, which runs, with its DATA, by LINE from the one host to the other.

    Raises RequestRefusedError and HypervisorError; it runs where it was then, and what is at the
    target of it is not whole, unless nobody heard of the end.
    """
    data = tuple(data)
    xml, metadata, domain = defined(move, move.source)
    layers = root_layers(metadata)
    written = {(metadata.generation.pool, metadata.generation.volume), *data}
    models = require_virtualization(move, xml)
    _require_same_processor(move, xml)
    with space_for(move, [*(layer.address for layer in layers), *data]):
        networks.ensure_networks(move.target, metadata.generation.declaration)
        with sent(move, layers, data, written, _variables(move, xml, metadata)) as result:
            arrival = Arrival(
                uri=move.source.uri,
                source=identity(move.source),
                # Its guest goes on writing to them.
                volumes=tuple(
                    SentVolume(*each.address) if each.address in written else each
                    for each in result.volumes
                ),
                autostart=autostart,
                # Its firmware does so, too.
                variables=result.variables
                and msgspec.structs.replace(result.variables, digest=None),
            )
            there = arriving(metadata, result, arrival, domain.uuid)
            place = place_at(move, result, there, xml, models)
            _require_same_parts(move, place)
            with phase(move.emit, "move", move.name) as told:
                move.require()
                result.given = True
                listener = _Listener(move.emit, move.name)
                destination = _destination(domain, place, there)
                migration.migrate(domain, move.target, destination, line, listener)
                told.detail = f"to {move.target.uri}{listener.said}"


class _Listener:
    """Tells EMIT how the guest of MACHINE moves; SAID is how much that was, as far as is known."""

    def __init__(self, emit: Emit, machine: str) -> None:
        """Nothing has moved yet."""
        self.said = ""
        self._emit, self._machine = emit, machine
        self._done = 0
        # Since when (seconds); None when it was told that this is long ago.
        self._since: float | None = time.monotonic()

    def progress(self, done: int, total: int) -> None:
        self.said = f", {format_size(total)} of memory and disks"
        self._emit(PhaseProgress("move", done, total, self._machine))
        now = time.monotonic()
        if done != self._done:
            self._done, self._since = done, now
        elif self._since is not None and now - self._since >= STANDSTILL_SECONDS:
            self._since = None
            text = (
                f"nothing more has arrived for {STANDSTILL_SECONDS} s: if the line between the two "
                "hosts is cut, it goes on when that is back; Control-C leaves the guest where it is"
            )
            self._emit(Notice(text, self._machine, warning=True))

    def in_the_clear(self, why: str) -> None:
        text = f"its memory and disks go from host to host in the clear: {why}"
        self._emit(Notice(text, self._machine, warning=True))


def _variables(move: Move, xml: str, metadata: Metadata) -> SentVariables | None:
    """Return what the firmware of the guest of XML keeps, which QEMU brings into a file there.

    If it is a volume of ours, it is to be one there, whatever the directory of the pool: that is
    sent, too, so that it counts as broken off if the guest does not get there.
    """
    path = firmware_variables.file(move.source, move.name, xml)
    name = variables_volume(move.name)
    if path is None or file_name(path) != name:
        return None if path is None else SentVariables(path)
    return SentVariables(path, metadata.generation.pool, name)


def _destination(domain: Domain, place: Place, there: Metadata) -> Destination:
    return Destination(
        live=moved_xml(migration.live_xml(domain), place, there),
        defined=moved_xml(migration.defined_xml(domain), place, there),
    )


def settle_source(move: Move, domain: Domain) -> None:
    """Have the machine, which is DOMAIN at the target and runs there, at the source no more.

    Where the two libvirtds did not talk to each other, and who did so for them was killed,
    it waits there to be told that it runs elsewhere.  Raises RequestRefusedError if it is
    anything else than that.
    """
    left = domains.find(move.source, move.name)
    if left is None or left.uuid != domain.uuid:
        return
    there, here = (
        domains.state(connection, each)
        for connection, each in ((move.target, domain), (move.source, left))
    )
    if there != "running" or here not in {"paused", "shut off"}:
        raise RequestRefusedError(
            f"'{move.name}' is {there} on {move.target.uri}, and {here} on {move.source.uri}",
            hint="Nothing was changed. If it goes on, or starts, on both, its disks differ: find "
            "out which one is to stay, and let nobody start the other.",
        )
    with phase(move.emit, "remove", move.name, detail=f"from {move.source.uri}"):
        move.require()
        domains.destroy(move.source, left)
        if domains.exists(move.source, move.name):
            domains.undefine(move.source, left)


def _require_same_processor(move: Move, xml: str) -> None:
    if inspect_domain(xml).hardware.domain_type == "kvm" and not migration.runs_on(
        move.source, move.target
    ):
        raise RequestRefusedError(
            f"the processor of {move.target.uri} lacks something that the guest of "
            f"'{move.name}' may use, which sees that of {move.source.uri}",
            hint=f"Nothing was done. Shut off, it can go: pyguixvm -c {quote(move.source.uri)} "
            f"shutdown {move.name}",
        )


def _require_same_parts(move: Move, place: Place) -> None:
    lost = set(place.lost) - {"emulator"}
    if lost:
        raise RequestRefusedError(
            f"{move.target.uri} does not have the {' and the '.join(sorted(lost))} that "
            f"'{move.name}' runs with",
            hint=f"Nothing was done. Shut off, it can go: pyguixvm -c {quote(move.source.uri)} "
            f"shutdown {move.name}",
        )

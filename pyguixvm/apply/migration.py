# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine moves to another hypervisor; wherever that ends, one copy of it at most can run.

First all that it has is sent.  Then it is defined there, with a fence: a disk that does not
exist, for the lack of which libvirt starts it for nobody.  Until now it may be started where it
was.  That definition goes next, if nobody did, and then the fence.  What it has where it was
goes last.  From the definition with the fence on, the machine itself remembers where it comes
from and what it had there, so that whoever comes after one who was killed goes on from there.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from contextlib import suppress
from shlex import quote

import msgspec

from pyguixvm.advice import words
from pyguixvm.apply import moved_variables
from pyguixvm.apply.moved_volumes import Move, Sent, sent
from pyguixvm.apply.space_there import space_for
from pyguixvm.apply.unused_volumes import usage
from pyguixvm.errors import HypervisorError, RequestRefusedError
from pyguixvm.events import phase
from pyguixvm.hypervisor import (
    data_records,
    domains,
    firmware_variables,
    incomplete_volume,
    networks,
    pools,
    volumes,
)
from pyguixvm.hypervisor.connection import Connection, capabilities, identity
from pyguixvm.hypervisor.domains import Domain
from pyguixvm.hypervisor.host_parts import HostParts
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.model.applied import Metadata
from pyguixvm.model.arrival import Arrival, SentVariables, SentVolume, digest, stamp
from pyguixvm.model.usage import Address
from pyguixvm.model.volume_names import data_of, variables_volume
from pyguixvm.plan.migration import root_layers
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.moved import Place, moved_xml, unfenced_xml


class ChangedMeanwhileError(RequestRefusedError):
    """What was sent of a machine is not what it is, or not all there: it stays where it was."""


def send(move: Move, data: Iterable[Address], *, autostart: bool) -> None:
    """Send the machine of MOVE, which is off, with its DATA; define it at the target, fenced.

    Raises RequestRefusedError and HypervisorError; what is at the target then is not whole,
    unless nobody heard of the definition.
    """
    data = tuple(data)
    xml, metadata, domain = defined(move, move.source)
    layers = root_layers(metadata)
    host = require_virtualization(move, xml)
    with (
        space_for(move, [*(layer.address for layer in layers), *data]),
        sent(move, layers, data, variables=_variables(move, xml, metadata)) as result,
    ):
        arrival = Arrival(
            uri=move.source.uri,
            source=identity(move.source),
            volumes=tuple(result.volumes),
            autostart=autostart,
            fenced=True,
            definition=digest(xml),
            variables=result.variables,
        )
        there = arriving(metadata, result, arrival, domain.uuid)
        place = place_at(move, result, there, xml, host)
        with phase(move.emit, "define", move.name):
            move.require()
            result.given = True
            domains.define(move.target, moved_xml(xml, place, there))


def settle(move: Move) -> str:
    """Have the machine of MOVE, which is defined at the target, there alone; say what was done.

    What was done of it already is not done again, and what is not at the target stays at the
    source.  Raises `ChangedMeanwhileError` if that has it, and it was started there since it was
    sent, or is not all at the target.
    """
    xml, metadata, domain = defined(move, move.target)
    arrival = metadata.arrival
    if arrival is None:
        return "is there already"
    missing = _missing(move.target, arrival)
    if arrival.fenced and missing and domains.find_by_uuid(move.source, domain.uuid) is not None:
        raise ChangedMeanwhileError(
            f"'{move.name}' is not all there on {move.target.uri}: {', '.join(missing)} is missing",
            hint=f"It is on {move.source.uri} as before. Run the command again.",
        )
    _take_in(move, arrival)
    if arrival.fenced:
        _give_up_source(move, arrival, domain.uuid)
        arrival = msgspec.structs.replace(arrival, fenced=False)
        metadata = msgspec.structs.replace(metadata, arrival=arrival)
        with phase(move.emit, "define", move.name):
            move.require()
            domain = domains.define(move.target, unfenced_xml(xml, metadata), domain)
    if arrival.autostart:
        domains.set_autostart(move.target, domain, on=True)
    left = _delete_left(move, arrival, missing)
    domains.write_metadata(move.target, domain, msgspec.structs.replace(metadata, arrival=None))
    with suppress(HypervisorError):
        networks.ensure_networks(move.target, metadata.generation.declaration)
    return f"came from {arrival.uri}" + "".join(f"; {each}" for each in left)


def take_back(move: Move) -> None:
    """Remove what came to the target, where it is fenced: the machine is at the source.

    Raises RequestRefusedError unless all that it had is there.
    """
    _, metadata, domain = defined(move, move.target)
    arrival = metadata.arrival
    if (
        arrival is None
        or not arrival.fenced
        or domains.find_by_uuid(move.source, domain.uuid) is None
    ):
        raise RequestRefusedError(f"'{move.name}' on {move.target.uri} may be the only one")
    needed = domains.read_metadata(move.source, move.name).roots
    for each in arrival.volumes:
        # A generation that went meanwhile is not missed.
        if each.address in needed or data_of(each.volume) is not None:
            _there_still(move, each)
    if arrival.variables is not None:
        xml, _, _ = defined(move, move.source)
        moved_variables.require_there(move, arrival.variables, xml)
    with phase(move.emit, "remove", move.name):
        move.require()
        # Whoever is killed from here on leaves what counts as broken off.
        for each in arrival.come:
            incomplete_volume.condemn(move.target, each.pool, each.volume)
        domains.undefine(move.target, domain)
        for each in arrival.come:
            volumes.delete(move.target, each.pool, each.volume)
            data_records.remove(move.target, each.address)


def defined(move: Move, where: Connection) -> tuple[str, Metadata, Domain]:
    """Return by what the machine of MOVE is defined at WHERE, what it remembers, and itself."""
    found = domains.find_whole_definition(where, move.name)
    if found is None:
        raise RequestRefusedError(f"'{move.name}' vanished from {where.uri}")
    return found


def require_virtualization(move: Move, xml: str) -> tuple[str, ...]:
    """Return the security models of the target, which has to offer what the domain of XML needs."""
    host, kind = capabilities(move.target), inspect_domain(xml).hardware.domain_type
    if kind not in host.domain_types:
        raise RequestRefusedError(
            f"'{move.name}' runs by '{kind}', which {move.target.uri} does not offer: it has "
            f"{', '.join(sorted(host.domain_types))}",
            hint="Nothing was moved. Enable virtualization there, or declare (virtualization "
            "'qemu) and deploy.",
        )
    return host.security_models


def _variables(move: Move, xml: str, metadata: Metadata) -> SentVariables | None:
    """Return what the firmware of the domain of XML, which is off, keeps, and where that goes.

    It stays where the firmware does: another one may not understand it.
    """
    path = firmware_variables.file(move.source, move.name, xml)
    if path is None or "firmware" in HostParts(move.target).lost(inspect_domain(xml).hardware):
        return None
    return SentVariables(path, metadata.generation.pool, variables_volume(move.name))


def place_at(
    move: Move, result: Sent, metadata: Metadata, xml: str, security_models: tuple[str, ...]
) -> Place:
    """Return where the domain of XML is at the target of MOVE, with the RESULT of sending."""
    pool = pools.find_pool(move.target, metadata.generation.pool)
    if pool is None:
        raise HypervisorError(f"pool '{metadata.generation.pool}' of {move.target.uri} was stopped")
    return Place(
        files=result.files,
        security_models=security_models,
        directory=pool.path,
        lost=HostParts(move.target).lost(inspect_domain(xml).hardware),
        variables=result.variables_file,
    )


def arriving(metadata: Metadata, result: Sent, arrival: Arrival, uuid: str) -> Metadata:
    """Return METADATA as it is at the target, with what came there as RESULT."""
    generations = (
        msgspec.structs.replace(each, base=result.bases.get(each.base or each.image, each.base))
        for each in metadata.generations
    )
    return msgspec.structs.replace(
        metadata, generations=tuple(generations), arrival=arrival, uuid=uuid
    )


def _missing(connection: Connection, arrival: Arrival) -> list[str]:
    """Return which volumes of ARRIVAL are not at CONNECTION, whole or not.

    Raises HypervisorError where that cannot be told.
    """
    found = {e.volume: volumes.is_there(connection, e.pool, e.volume) for e in arrival.come}
    pools_of = {each.volume: each.pool for each in arrival.come}
    stopped = next((pools_of[name] for name, there in found.items() if there is None), None)
    if stopped is not None:
        raise HypervisorError(
            f"pool '{stopped}' of {connection.uri} is stopped, or gone",
            hint=f"Start it and run the command again: virsh -c {quote(connection.uri)} "
            f"pool-start {words(stopped)}",
        )
    return [name for name, there in found.items() if not there]


def _take_in(move: Move, arrival: Arrival) -> None:
    """Have all that came by ARRIVAL count as whole, and data be recorded."""
    records = {each.address: each for each in data_records.read(move.source)}
    for each in arrival.come:
        # Whoever was killed had them all: it is defined last.
        volumes.delete_marker(move.target, each.pool, each.volume)
        known, found = records.get(each.address), None
        if known is not None and data_of(each.volume) is not None:
            found = volumes.lookup(move.target, each.pool, each.volume)
        if found is not None and known is not None:
            record = msgspec.structs.replace(known, path=found.path, making=False)
            data_records.write(move.target, record)


def _give_up_source(move: Move, arrival: Arrival, uuid: str) -> None:
    """Have the machine not defined at the source any more, if it is as it was when it was sent."""
    domain = domains.find_by_uuid(move.source, uuid)
    if domain is None:
        return
    xml = domains.whole_definition(move.source, domain)
    if xml is None:
        return
    _require_unchanged(move, domain, xml, arrival)
    with phase(move.emit, "remove", move.name, detail=f"from {move.source.uri}"):
        move.require()
        # Others may have their file: it goes last, see `moved_variables`.
        known = arrival.variables is not None
        domains.undefine(move.source, domain, keep_variables=known)
        # Started in the very moment, it lives on without a definition.
        if domains.find_by_uuid(move.source, uuid) is not None:
            domains.define(move.source, xml)
            raise _changed(move.name, move.source)


def _require_unchanged(move: Move, domain: Domain, xml: str, arrival: Arrival) -> None:
    """Raise `ChangedMeanwhileError` unless DOMAIN, at the source, is what was sent.

    It is defined by XML: what was deployed since, or a disk that was added, is in there.
    """
    if arrival.definition not in {None, digest(xml)}:
        raise _changed(move.name, move.source)
    off = domains.state(move.source, domain) == "shut off"
    if not off or domains.is_memory_kept(move.source, domain):
        raise _changed(move.name, move.source)
    found = [(each, _there_still(move, each)) for each in arrival.volumes]
    if not all(_is_as_sent(each, volume) for each, volume in found):
        raise _changed(move.name, move.source)
    variables = arrival.variables
    if variables is not None and not moved_variables.are_as_sent(move, variables, xml):
        raise _changed(move.name, move.source)


def _there_still(move: Move, sent_volume: SentVolume) -> Volume:
    """Return SENT_VOLUME as it is at the source.

    Raises RequestRefusedError if it was deleted: no copy is given up for that.
    """
    found = volumes.refreshed(move.source, *sent_volume.address)
    if found is None:
        raise RequestRefusedError(
            f"volume '{sent_volume.volume}' of pool '{sent_volume.pool}' is not there any more on "
            f"{move.source.uri}, and was sent to {move.target.uri}",
            hint=f"Nothing was changed. If '{move.name}' is to be as it was sent, give up the "
            f"other one, and run the command again: virsh -c {quote(move.source.uri)} "
            f"undefine --nvram {move.name}",
        )
    return found


def _is_as_sent(sent_volume: SentVolume, found: Volume) -> bool:
    seen = stamp(found.physical, found.modified)
    return sent_volume.stamp is None or seen == sent_volume.stamp


def _changed(name: str, connection: Connection) -> ChangedMeanwhileError:
    return ChangedMeanwhileError(
        f"'{name}' was started on {connection.uri}, or changed, while it was moved away from there",
        hint="It is there as before. Run the command again when it is shut off.",
    )


def _delete_left(move: Move, arrival: Arrival, missing: Collection[str]) -> list[str]:
    """Delete what ARRIVAL left at the source, and nothing that anything uses; say what stays.

    Of what is MISSING at the target, that is the only copy.
    """
    there = [e for e in arrival.volumes if volumes.is_whole(move.source, e.pool, e.volume)]
    only = [each.volume for each in there if each.volume in missing]
    there = [each for each in there if each.volume not in missing]
    used = usage(move.source).kept([each.address for each in there])
    kept = {(each.pool, each.volume): str(each) for each in used}
    said = list(kept.values())
    said += [f"{e} is not on {move.target.uri}, and stays on {move.source.uri}" for e in only]
    said += [
        f"{each.volume} is neither on {move.target.uri} nor on {move.source.uri}"
        for each in arrival.volumes
        if each.volume in missing and each.volume not in only
    ]
    with phase(move.emit, "remove", move.name, detail=f"from {move.source.uri}"):
        # What stands on another one goes before that.
        for each in reversed(there):
            if each.address in kept:
                continue
            found = volumes.refreshed(move.source, *each.address)
            if found is None:
                continue
            if not _is_as_sent(each, found):
                said.append(f"{each.volume} was written to since on {move.source.uri}, and stays")
                continue
            move.require()
            volumes.delete(move.source, each.pool, each.volume)
        for each in arrival.volumes:
            if not volumes.is_whole(move.source, each.pool, each.volume):
                data_records.remove(move.source, each.address)
    if arrival.variables is not None:
        lost = arrival.variables.volume in missing
        said += moved_variables.delete_left(move, arrival.variables, lost=lost)
    return said

# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of data disks, which outlive their machines: listed, deleted, adopted, forgotten."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TypeAlias

from pyguixvm.advice import vol_delete, words
from pyguixvm.apply.unused_volumes import usage
from pyguixvm.commands.session import Session
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import data_records, pools, volumes
from pyguixvm.hypervisor.connection import Connection, connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.model.data_record import DataRecord, FoundRecord
from pyguixvm.model.listed import ListedVolume, VolumeState
from pyguixvm.model.usage import Address, Kept
from pyguixvm.model.volume_names import data_of


def data_volumes(session: Session) -> tuple[ListedVolume, ...]:
    """Return the volumes of data disks that are there, or were, by pool and name."""
    with connect(session.uri) as connection:
        return _seen(connection)


def chosen(listed: Sequence[ListedVolume], names: Sequence[str]) -> tuple[ListedVolume, ...]:
    """Return those LISTED that NAMES mean, POOL/VOLUME or VOLUME alone, once each.

    Raises RequestRefusedError if one means none, or several.
    """
    return tuple(dict.fromkeys(_meant(listed, name) for name in names))


def _meant(listed: Sequence[ListedVolume], name: str) -> ListedVolume:
    found = [each for each in listed if name in {each.volume, f"{each.pool}/{each.volume}"}]
    if len(found) == 1:
        return found[0]
    if found:
        several = ", ".join(f"{each.pool}/{each.volume}" for each in found)
        raise RequestRefusedError(
            f"there are several volumes '{name}'; nothing was done",
            hint=f"Say which one: {several}.",
        )
    raise RequestRefusedError(
        f"there is no volume '{name}' of a data disk; nothing was done",
        hint="'pyguixvm volumes' lists what there is. What is no data disk's, 'pyguixvm gc' "
        "removes when it is not needed.",
    )


def require_deletable(wanted: Iterable[ListedVolume]) -> None:
    """Raise RequestRefusedError unless all WANTED are there, recorded, and used by nothing."""
    for each in wanted:
        hints: Mapping[VolumeState, str] = {
            "in use": "It can be deleted once nothing uses it: a machine lets go of it when the "
            "disk is taken out of its declaration, and that is deployed, or when it is undefined.",
            "unknown": "It may be somebody's copy. If you know that it is not: "
            f"virsh {vol_delete(each.pool, each.volume)}",
            "unfinished": "'pyguixvm gc' removes it if nobody is making it.",
            "gone": f"To have its record removed: pyguixvm volumes forget {words(_name(each))}",
            "pool inactive": f"To start the pool: virsh pool-start {words(each.pool)}",
        }
        if each.state != "kept":
            raise _refused(each, "deleted", hints[each.state])


def require_adoptable(wanted: Iterable[ListedVolume]) -> None:
    """Raise RequestRefusedError unless all WANTED are there, and used by nothing."""
    for each in wanted:
        if each.state not in {"kept", "unknown"}:
            raise _refused(each, "adopted", "'pyguixvm volumes' lists what there is.")


def require_forgettable(wanted: Iterable[ListedVolume]) -> None:
    """Raise RequestRefusedError if something uses one of WANTED."""
    for each in wanted:
        if each.state == "in use":
            raise _refused(each, "forgotten", "Its record goes when it is deleted.")


def _refused(volume: ListedVolume, what: str, hint: str) -> RequestRefusedError:
    return RequestRefusedError(
        f"volume '{volume.volume}' of pool '{volume.pool}' is {volume.state} "
        f"({volume.detail}); nothing was {what}",
        hint=hint,
    )


def delete(session: Session, agreed: Sequence[ListedVolume]) -> None:
    """Delete the volumes AGREED, for good, and their records.

    Raises RequestRefusedError if one is not what it was; those before it are gone.
    """

    def remove(connection: Connection, volume: ListedVolume) -> None:
        volumes.delete(connection, volume.pool, volume.volume)
        data_records.remove(connection, _address(volume))

    _each(session, agreed, "volumes delete", require_deletable, remove)


def adopt(session: Session, agreed: Sequence[ListedVolume]) -> None:
    """Record each of the volumes AGREED as what the next machine of its name is to have.

    Raises RequestRefusedError if one is not what it was; those before it are adopted.
    """

    def record(connection: Connection, volume: ListedVolume) -> None:
        identity = data_records.identity(connection, _address(volume))
        found = volumes.refreshed(connection, volume.pool, volume.volume)
        data_records.write(
            connection,
            DataRecord(
                volume.pool,
                volume.volume,
                path=found.path if found else None,
                size=found.capacity if found else None,
                identity=identity,
            ),
        )

    _each(session, agreed, "volumes adopt", require_adoptable, record)


def forget(session: Session, agreed: Sequence[ListedVolume]) -> None:
    """Remove the records of the volumes AGREED; these stay as they are, wherever they are.

    Raises RequestRefusedError if one is not what it was; those before it are forgotten.
    """

    def remove(connection: Connection, volume: ListedVolume) -> None:
        data_records.remove(connection, _address(volume))

    _each(session, agreed, "volumes forget", require_forgettable, remove)


def _each(
    session: Session,
    agreed: Sequence[ListedVolume],
    verb: str,
    require: Callable[[Iterable[ListedVolume]], None],
    work: Callable[[Connection, ListedVolume], None],
) -> None:
    """Do WORK with each volume AGREED on, under its machine's lock, if it still is as REQUIREd."""
    with connect(session.uri) as connection:
        for each in agreed:
            with held(connection, (each.machine,), session.emit, verb) as lock:
                require(chosen(_seen(connection), [_name(each)]))
                lock.require(each.machine)
                work(connection, each)


def _name(volume: ListedVolume) -> str:
    return "/".join(_address(volume))


def _address(volume: ListedVolume) -> Address:
    return volume.pool, volume.volume


def _seen(connection: Connection) -> tuple[ListedVolume, ...]:
    active = pools.active(connection)
    # What uses them is asked first: that has the pools look again.
    used = usage(connection)
    there = {
        (each.pool, each.name): each
        for pool in active
        for each in volumes.list_ours(connection, pool)
        if data_of(each.name) is not None
    }
    records = {
        each.address: data_records.compared(connection, each)
        if each.address in there
        else FoundRecord(each)
        for each in data_records.read(connection)
        if each.machine is not None
    }
    kept = {(each.pool, each.volume): each for each in used.kept(there)}
    unfinished = {each for each in there if volumes.incomplete(connection, *each)}
    return tuple(_listed(there, records, kept, unfinished, active))


def _listed(
    there: Mapping[Address, volumes.Volume],
    records: Mapping[Address, FoundRecord],
    kept: Mapping[Address, Kept],
    unfinished: Collection[Address],
    active: Sequence[str],
) -> Iterator[ListedVolume]:
    for address in sorted(there.keys() | records.keys()):
        named = data_of(address[1])
        if named is None:
            continue
        volume, found = there.get(address), records.get(address)
        state, detail = (
            _in_use(kept[address])
            if address in kept
            else _UNFINISHED
            if address in unfinished
            else _unused(address, volume, found, active)
        )
        record = found.record if found else DataRecord(*address)
        yield ListedVolume(
            pool=address[0],
            volume=address[1],
            machine=named[0],
            disk=named[1],
            uuid=record.uuid,
            deployment=record.deployment,
            size=volume.capacity if volume else record.size,
            allocation=volume.allocation if volume else None,
            file_system=record.file_system,
            state=state,
            detail=detail,
        )


_State: TypeAlias = tuple[VolumeState, str | None]
_UNFINISHED: _State = ("unfinished", "its making goes on, or was broken off")


def _in_use(kept: Kept) -> _State:
    return "in use", kept.reason


def _unused(
    address: Address,
    volume: volumes.Volume | None,
    found: FoundRecord | None,
    active: Sequence[str],
) -> _State:
    """Return how it is with the volume at ADDRESS, and what there is to say of that."""
    if volume is None:
        if address[0] in active:
            return "gone", "it is not in its pool"
        return "pool inactive", "its pool is not active"
    if found is None:
        return "unknown", "there is no record of it"
    if found.is_another:
        return "unknown", "it is not the one that was recorded"
    return "kept", None

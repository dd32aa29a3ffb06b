# SPDX-License-Identifier: GPL-3.0-or-later
"""The volumes of a machine are sent from one hypervisor to another, by way of this machine."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from shlex import quote

import msgspec

from pyguixvm.advice import vol_delete
from pyguixvm.apply.context import Turns
from pyguixvm.apply.promised_space import PromisedSpace
from pyguixvm.digest.content import content_of
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import Count, Emit, phase
from pyguixvm.hypervisor import data_records, download, firmware_variables, volumes
from pyguixvm.hypervisor.base_volume import BaseVolumes, image_content
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.upload import uploaded
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.image import overlay
from pyguixvm.image.blank import make_empty
from pyguixvm.image.workplace import workplace
from pyguixvm.model.arrival import SentVariables, SentVolume, stamp
from pyguixvm.model.sizes import format_size
from pyguixvm.model.usage import Address
from pyguixvm.model.volume_names import is_base_by_digest, is_store_item
from pyguixvm.plan.migration import RootLayer

# Of a base volume that is there already, so many parts of so many bytes are compared.
_SAMPLES = 16
_SAMPLE = 64 * 1024


@dataclass(frozen=True)
class Shared:
    """What machines that move side by side have in common: TURNS, and SPACE that is promised."""

    turns: Turns = field(default_factory=Turns)
    space: PromisedSpace = field(default_factory=PromisedSpace)


@dataclass(frozen=True)
class Move:
    """Machine NAME goes from SOURCE to TARGET.

    REQUIRE is called before each step that cannot be undone, and raises LostLockError unless
    the machine is ours to change on both.  DIGESTS are what is known of images, and EMIT is
    told what goes on.  SHARED is what all have that move side by side.
    """

    name: str
    source: Connection
    target: Connection
    emit: Emit
    digests: Digests
    require: Callable[[], None]
    shared: Shared = field(default_factory=Shared)


@dataclass
class Sent:
    """What has been sent: FILES are where it is now by where it was, BASES names likewise.

    VOLUMES are those that the source can give up when all is over, as VARIABLES, of its firmware,
    which are VARIABLES-FILE at the target, where libvirt itself would not look for them.
    GIVEN: the target was asked to define what has them, and may do so whatever is heard of it.
    """

    files: dict[str, str] = field(default_factory=dict)
    bases: dict[str, str] = field(default_factory=dict)
    volumes: list[SentVolume] = field(default_factory=list)
    variables: SentVariables | None = None
    variables_file: str | None = None
    given: bool = False


@contextmanager
def sent(
    move: Move,
    layers: Iterable[RootLayer],
    data: Iterable[Address],
    written: Collection[Address] = (),
    variables: SentVariables | None = None,
) -> Iterator[Sent]:
    """Send LAYERS, each after what it stands on, and the DATA volumes; yield what came of it.

    VARIABLES of firmware become the volume that they are to be.

    Those that are being WRITTEN are made empty, of the same size: QEMU brings what they hold.
    They count as whole from the end of the body on, which is to define the domain that has
    them.  If it fails they go again, unless they are `given` by then: the next run goes on with
    them, or `gc` deletes them.
    """
    result = Sent()
    with ExitStack() as incomplete:
        for layer in layers:
            _send_root(move, layer, result, incomplete, empty=layer.address in written)
        for address in data:
            ready = _empty_disk if address in written else _fetched
            _send(move, address, result, incomplete, ready)
        if variables is not None:
            result.variables = _send_variables(move, variables, result, incomplete)
        yield result


def _send_variables(
    move: Move, variables: SentVariables, result: Sent, incomplete: ExitStack
) -> SentVariables:
    """Send VARIABLES, if they are to become a volume, and there are any; return what they are."""
    pool, name = variables.pool, variables.volume
    if pool is None or name is None:
        return variables
    held = firmware_variables.held(move.source, variables.path)
    if held is None:
        # It never ran: they are made when it does.
        return SentVariables(variables.path)
    with phase(move.emit, "transfer", move.name, detail=name), workplace() as directory:
        file = directory / name
        file.write_bytes(held)
        move.require()
        made = incomplete.enter_context(
            uploaded(move.target, pool, name, file, move.emit, move.name, kept=lambda: result.given)
        )
    result.variables_file = made.path
    return msgspec.structs.replace(variables, digest=hashlib.sha256(held).hexdigest())


def _send_root(
    move: Move, layer: RootLayer, result: Sent, incomplete: ExitStack, *, empty: bool
) -> None:
    if layer.below is None:
        below, form = Path(_base(move, layer, result)), layer.format
    else:
        there = volume_there(move.source, layer.pool, layer.below).path
        below, form = Path(result.files[there]), "qcow2"

    def ready(move: Move, volume: Volume, file: Path) -> None:
        if empty:
            overlay.create_unsafe(below, form, file, volume.capacity)
        else:
            _fetched(move, volume, file)
            overlay.rebase_unsafe(file, below, form)

    _send(move, layer.address, result, incomplete, ready)


def _send(
    move: Move,
    address: Address,
    result: Sent,
    incomplete: ExitStack,
    ready: Callable[[Move, Volume, Path], None],
) -> None:
    """Send the volume at ADDRESS, which READY makes a file of, here, as it is to be there."""
    pool, name = address
    with (
        phase(move.emit, "transfer", move.name, detail=name) as told,
        workplace() as directory,
    ):
        file = directory / name
        volume = volume_there(move.source, pool, name)
        ready(move, volume, file)
        move.require()
        made = incomplete.enter_context(
            uploaded(
                move.target,
                pool,
                name,
                file,
                move.emit,
                move.name,
                resumable=True,
                kept=lambda: result.given,
            )
        )
        told.detail = f"{format_size(made.allocation)} in {made.path}"
    result.files[volume.path] = made.path
    result.volumes.append(SentVolume(pool, name, stamp(volume.physical, volume.modified)))


def _fetched(move: Move, volume: Volume, file: Path) -> None:
    """Write VOLUME, as it is, to FILE."""
    count = Count(move.emit, "transfer", volume.allocation, move.name)
    download.save(move.source, volume, file, count.add)


def _empty_disk(move: Move, volume: Volume, file: Path) -> None:
    """Make FILE an empty image that is taken for the data disk VOLUME."""
    identity = data_records.identity(move.source, (volume.pool, volume.name))
    make_empty(file, volume.capacity, identity)


def volume_there(connection: Connection, pool: str, name: str) -> Volume:
    """Return volume NAME of POOL as it is now; raises RequestRefusedError if it is not whole."""
    found = volumes.refreshed(connection, pool, name)
    if found is None:
        raise RequestRefusedError(
            f"volume '{name}' of pool '{pool}' is not there, or not whole, on {connection.uri}",
            hint=f"'pyguixvm -c {quote(connection.uri)} status' tells what is missing; a "
            "generation that lost its volume goes with the next deploy.",
        )
    return found


def _base(move: Move, layer: RootLayer, result: Sent) -> str:
    """Have what LAYER stands on in the pool of the target; return its file name there."""
    if layer.image in result.files:
        return result.files[layer.image]
    if is_store_item(layer.image):
        item = _here(layer.image)
        content = image_content(item, move.digests, move.emit, move.name)
        was, made = layer.image, _bases(move, layer.pool).provide(item, content)
    else:
        volume = volume_there(move.source, layer.pool, layer.image)
        # Of those that stand on it, the first one sends it.
        with move.shared.turns.at(move.target.uri, volume.pool, volume.name):
            was, made = volume.path, _same_base(move, volume) or _sent_base(move, volume)
    result.files[was] = result.files[layer.image] = made.path
    result.bases[layer.image] = made.name
    return made.path


def _bases(move: Move, pool: str) -> BaseVolumes:
    return BaseVolumes(move.target, pool, move.digests, move.emit, move.name)


def _here(item: str) -> Path:
    path = Path(item)
    if not path.exists():
        raise RequestRefusedError(
            f"the machine stands on {item}, a store item of its host, which is not on this machine",
            hint="Nothing was moved. Run the command on that host.",
        )
    return path


def _sent_base(move: Move, volume: Volume) -> Volume:
    """Send the base VOLUME of the source; return that of the target, which its digest names."""
    with workplace() as directory:
        file = directory / volume.name
        _fetched(move, volume, file)
        with file.open("rb") as opened:
            content = content_of(opened)
        made = _bases(move, volume.pool).provide(file, content)
    if is_base_by_digest(volume.name) and made.name != volume.name:
        raise RequestRefusedError(
            f"base volume '{volume.name}' of pool '{volume.pool}' on {move.source.uri} does not "
            "hold what it was made of: it was changed",
            hint="Nothing was moved. What stands on it may be damaged: see the guest of "
            f"'{move.name}', and deploy with --full.",
        )
    return made


def _same_base(move: Move, volume: Volume) -> Volume | None:
    """Return the base volume of the target that holds what VOLUME does, if it has it.

    Its name says that it does; some of it is compared.
    """
    name, pool = volume.name, volume.pool
    if not is_base_by_digest(name) or not volumes.is_whole(move.target, pool, name):
        return None
    found = volumes.lookup(move.target, pool, name)
    if found is None:
        return None
    places = {volume.physical * step // _SAMPLES for step in range(_SAMPLES)}
    lengths = {at: min(_SAMPLE, volume.physical - at) for at in places if at < volume.physical}
    same = found.physical == volume.physical and all(
        download.data(move.source, volume, at, length)
        == download.data(move.target, found, at, length)
        for at, length in sorted(lengths.items())
    )
    if not same:
        raise RequestRefusedError(
            f"base volume '{name}' of pool '{pool}' on {move.target.uri} does not hold what its "
            "name says",
            hint="Nothing was moved. When nothing needs it any more, delete it: "
            f"virsh -c {quote(move.target.uri)} {vol_delete(pool, name)}",
        )
    return found

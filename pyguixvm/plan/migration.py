# SPDX-License-Identifier: GPL-3.0-or-later
"""What moves when a machine goes to another hypervisor, and why it may not; pure."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from itertools import pairwise
from shlex import quote
from typing import Literal

import msgspec

from pyguixvm.advice import vol_delete
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import BlockDevice
from pyguixvm.model.image import SharedStore
from pyguixvm.model.observation import Hardware, Observation, ObservedDomain
from pyguixvm.model.usage import Address
from pyguixvm.model.volume_names import data_of, file_name, generation_of
from pyguixvm.plan.interference import (
    require_at_home,
    require_idle_disks,
    require_no_memory,
    require_own_disks,
    require_unkept,
    require_volumes,
)
from pyguixvm.plan.plan import Policy
from pyguixvm.plan.refusals import (
    owners_of_addresses,
    require_no_other_name,
    require_own_addresses,
    require_possible,
)

_NOTHING_DONE = "Nothing was done"


class RootLayer(msgspec.Struct, frozen=True):
    """A root VOLUME of POOL; it stands on BELOW, another one, or else on IMAGE.

    IMAGE is the name of a base volume of POOL, or the file name of a store item, and FORMAT
    what it is.
    """

    pool: str
    volume: str
    below: str | None
    image: str
    format: Literal["raw", "qcow2"]

    @property
    def address(self) -> Address:
        """Its pool and its name."""
        return self.pool, self.volume


def root_layers(metadata: Metadata) -> tuple[RootLayer, ...]:
    """Return the root volumes of METADATA, each after what it stands on."""
    layers: dict[Address, RootLayer] = {}
    for generation in metadata.generations:
        for layer in _layers(generation):
            layers.setdefault(layer.address, layer)
    return tuple(layers.values())


def _layers(generation: Generation) -> Iterator[RootLayer]:
    image = generation.base or generation.image
    form = generation.declaration.image.disk_format
    lowest_first = [None, *reversed(generation.volumes)]
    for below, volume in pairwise(lowest_first):
        if volume is not None:
            yield RootLayer(generation.pool, volume, below, image, form)


def require_movable(domain: ObservedDomain, to: str) -> Metadata:
    """Return what DOMAIN remembers.  Raises RequestRefusedError if it cannot go to the host of TO.

    That is where something of it is its host's, or was made of it by somebody else.
    """
    if domain.unreadable is not None or domain.metadata is None:
        raise RequestRefusedError(
            domain.unreadable or f"domain '{domain.name}' was not made by pyguixvm",
            hint=domain.hint or "It is left alone. 'virsh migrate' moves it.",
        )
    require_at_home(domain)
    require_unkept(domain)
    require_own_disks(domain)
    require_volumes(domain)
    require_no_memory(domain)
    require_idle_disks(domain)
    _require_not_merging(domain.name, domain.metadata)
    _require_tpm_moved(domain, to)
    kept = tuple(dict.fromkeys(_of_the_host(domain, domain.metadata)))
    if kept:
        raise RequestRefusedError(
            f"'{domain.name}' has what is its host's, and cannot go to {to}: {', '.join(kept)}",
            hint=f"{_NOTHING_DONE}. Declare it without, and deploy; or declare it for {to} under "
            "another name.",
        )
    return domain.metadata


def _require_not_merging(name: str, metadata: Metadata) -> None:
    """Raise RequestRefusedError if layers of a root become one: which they are is not settled."""
    if metadata.merging is not None:
        raise RequestRefusedError(
            f"layers of the root volume of '{name}' are being merged, or that was broken off",
            hint=f"{_NOTHING_DONE}. Try again when it is over. If nobody is at it, the next "
            "deploy finishes it.",
        )


def _require_tpm_moved(domain: ObservedDomain, to: str) -> None:
    """Raise RequestRefusedError if DOMAIN is off and has a TPM: its state goes while it runs only.

    It would go with the definition, and what it keeps the keys of could not be read any more.
    """
    if domain.state == "shut off" and domain.defined.tpm:
        raise RequestRefusedError(
            f"'{domain.name}' has an emulated TPM, and what that keeps does not go to {to} while "
            "it is off",
            hint=f"{_NOTHING_DONE}. Started, it can go with it: pyguixvm start {domain.name}",
        )


def _of_the_host(domain: ObservedDomain, metadata: Metadata) -> Iterator[str]:
    """Yield, in words, what DOMAIN has that another host has not."""
    known = {layer.volume for layer in root_layers(metadata)}
    for hardware in filter(None, (domain.defined, domain.live)):
        yield from _parts_of_the_host(domain.name, hardware, known)
    for each in metadata.generations:
        if isinstance(each.declaration.image, SharedStore):
            yield f"the store of its host, which generation {each.number} runs from"
        for disk in each.declaration.domain.disks:
            if isinstance(disk, BlockDevice):
                yield f"device {disk.device}"


def _parts_of_the_host(name: str, hardware: Hardware, known: Collection[str]) -> Iterator[str]:
    for directory in hardware.directories:
        yield f"directory {directory.source} ({directory.driver})"
    for device in hardware.host_devices:
        yield f"passed-through device {device}"
    if hardware.variables != "file":
        yield f"variables of firmware of type '{hardware.variables}'"
    for disk in hardware.stacks:
        volume = file_name(disk.source)
        named = generation_of(volume) or data_of(volume)
        ours = volume in known or (named is not None and named[0] == name)
        if not ours and disk.source.startswith("/dev/"):
            yield f"device {disk.source}"
        elif not ours:
            yield f"disk {disk.source}, which pyguixvm did not make"


def require_place(
    metadata: Metadata, source: ObservedDomain, target: Observation, sent: Collection[Address]
) -> None:
    """Raise RequestRefusedError unless TARGET can take the machine of METADATA, as SOURCE is.

    SENT are the volumes that go there.
    """
    machine = metadata.generation.declaration
    there = target.domains.get(machine.name)
    if there is not None:
        raise RequestRefusedError(
            f"'{machine.name}' is on both hypervisors"
            if there.uuid == source.uuid
            else f"there is another '{machine.name}' on {target.uri}",
            hint=f"{_NOTHING_DONE}. Find out which one is to stay: "
            f"'virsh -c {quote(target.uri)} dumpxml {machine.name}' shows that one.",
        )
    require_possible(machine, target, Policy())
    require_no_other_name(machine, target)
    require_own_addresses(machine, owners_of_addresses(target), {})
    _require_networks(metadata, source, target)
    for pool, volume in sorted(sent):
        if volume in target.pools.get(pool, ()):
            raise RequestRefusedError(
                f"there is a volume '{volume}' in pool '{pool}' of {target.uri} already, which "
                "may hold somebody's data",
                hint=f"{_NOTHING_DONE}. See 'pyguixvm -c {quote(target.uri)} volumes'; if "
                f"nobody needs it: virsh -c {quote(target.uri)} "
                f"{vol_delete(pool, volume)}",
            )


def _require_networks(metadata: Metadata, source: ObservedDomain, target: Observation) -> None:
    wanted = {each.network for each in source.defined.interfaces if each.network is not None}
    wanted |= {each.network for each in metadata.generation.declaration.domain.networking}
    if target.host.networks is None:
        return
    for network in sorted(wanted - set(target.host.networks)):
        raise RequestRefusedError(
            f"'{source.name}' is on network '{network}', which {target.uri} does not have",
            hint=f"{_NOTHING_DONE}. Define it there with "
            f"'virsh -c {quote(target.uri)} net-define', or declare another one and deploy. "
            "Networks there: "
            f"{', '.join(target.host.networks) or 'none'}.",
        )

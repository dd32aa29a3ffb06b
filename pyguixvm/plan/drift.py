# SPDX-License-Identifier: GPL-3.0-or-later
"""How a machine differs from its declaration, and what it takes to mend each; pure.

The image and what it is made with are compared with what was applied, as the
domain's metadata remembers it; resources with what libvirt says, since anyone can
change them there.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from pyguixvm.model.applied import Generation
from pyguixvm.model.declaration import Networking, VirtualMachine
from pyguixvm.model.difference import Difference, Value
from pyguixvm.model.image import LocalImage, RemoteImage, SharedStore
from pyguixvm.model.observation import Hardware, ObservedDomain, ObservedInterface
from pyguixvm.model.plain_fields import PLAIN_FIELDS
from pyguixvm.model.volume_names import data_of, file_name, generation_of, parcel_volume
from pyguixvm.plan.difference import ABSENT, compare
from pyguixvm.plan.disks import disk_differences, mount_differences, source_of
from pyguixvm.plan.interference import disk_interferences, interferences

# What a root volume, once made, cannot follow.
_OF_THE_ROOT = frozenset({"image", "storage", "kernel-arguments", "pool", "firmware"})
# Libvirt's own unit of memory.
_KIB = 1024


def differences(machine: VirtualMachine, domain: ObservedDomain) -> tuple[Difference, ...]:
    """Return how DOMAIN, one of ours, differs from MACHINE."""
    if domain.metadata is None:
        raise ValueError(f"'{domain.name}' is not ours")
    applied = domain.metadata.generation
    others = disk_interferences(domain)
    found = (
        *_of_a_broken_off_change(applied),
        *_of_the_root(applied.declaration, machine),
        *_of_the_local_image(applied, domain),
        *_of_the_definition(machine, domain),
        *_of_resources(machine, applied, domain.defined, domain.live),
        *_of_memory(machine, domain),
        *_of_the_attached_root(applied, domain),
        *disk_differences(machine, applied.declaration, domain),
        *mount_differences(machine, applied.declaration, domain),
        *_of_what_is_remembered(applied.declaration, machine),
    )
    return (*(each for each in found if each.path not in others), *others.values())


def foreign_devices(machine: VirtualMachine, domain: ObservedDomain) -> tuple[str, ...]:
    """Return, in words, the interfaces, disks and directories that somebody else gave to DOMAIN."""
    declarations = [machine]
    if domain.metadata is not None:
        declarations.append(domain.metadata.generation.declaration)
    macs = {i.mac_address for each in declarations for i in each.domain.networking}
    sources = {source_of(each.name, disk) for each in declarations for disk in each.domain.disks}
    tags = {mount.tag for each in declarations for mount in each.domain.mount_points}
    hardware = domain.live or domain.defined
    sources |= {each.source for each in interferences(domain)}
    return (
        *(f"interface {i.mac_address}" for i in hardware.interfaces if i.mac_address not in macs),
        *(
            f"disk {disk}"
            for disk in hardware.disks
            if disk not in sources and not _of_machine(domain.name, file_name(disk))
        ),
        *(f"directory {each.source}" for each in hardware.directories if each.tag not in tags),
    )


def _of_machine(name: str, volume: str) -> bool:
    named = generation_of(volume) or data_of(volume)
    if volume == parcel_volume(name):
        return True
    return named is not None and named[0] == name


def defined_memory(size: int) -> int:
    """Return SIZE bytes as libvirt keeps it: rounded up to whole KiB."""
    return -(-size // _KIB) * _KIB


def _of_a_broken_off_change(applied: Generation) -> Iterator[Difference]:
    if applied.changing:
        yield Difference(path="activation", old="broken off", new="done", effect="replace")


def _of_the_root(applied: VirtualMachine, declared: VirtualMachine) -> Iterator[Difference]:
    told = _told(applied, declared)
    old, new = ({"image": _image(m, told)} | _domain_fields(m) for m in (applied, declared))
    for key in old:
        prefix = "" if key == "image" else "domain."
        yield from _walk(prefix + key, old[key], new[key])


def _of_the_local_image(applied: Generation, domain: ObservedDomain) -> Iterator[Difference]:
    """Yield that the image holds something else, whatever its size and its time are."""
    if domain.local_base is not None and domain.local_base != applied.base:
        yield Difference(
            path="image.holds", old=applied.base, new=domain.local_base, effect="replace"
        )


# What is in an image changes with its derivation, what a system boots by with itself.
_FOLLOWING = frozenset({"content", "boot", "grafted"})
_GRAFTED = frozenset({"derivation", "output"})


def _told(applied: VirtualMachine, declared: VirtualMachine) -> Callable[[str], bool]:
    """Return whether a field of an image tells whether it is the one that was APPLIED."""
    image, before = declared.image, applied.image
    if isinstance(image, SharedStore):
        known = isinstance(before, SharedStore) and before.ungrafted is not None
        beside = "ungrafted" if image.grafted or not known else "system"
        return lambda field: field not in _FOLLOWING | {beside}
    if isinstance(image, RemoteImage):
        # Wherever it comes from, and whoever keeps it where: its digest says what it is.
        return lambda field: field not in {"url", "path"}
    following = isinstance(image, LocalImage) or image.grafted
    return lambda field: field not in (_FOLLOWING if following else _FOLLOWING | _GRAFTED)


def _image(machine: VirtualMachine, told: Callable[[str], bool]) -> Value:
    fields = _fields(machine.image)
    assert isinstance(fields, dict)  # noqa: S101 -- for mypy: a struct becomes a dict
    return {key: value for key, value in fields.items() if told(key)}


def _domain_fields(machine: VirtualMachine) -> dict[str, Value]:
    fields = _fields(machine.domain)
    assert isinstance(fields, dict)  # noqa: S101 -- for mypy: a struct becomes a dict
    return {key: value for key, value in fields.items() if key in _OF_THE_ROOT}


def _fields(struct: msgspec.Struct) -> Value:
    builtins: Value = msgspec.to_builtins(struct)
    return builtins


def _walk(path: str, old: Value, new: Value) -> Iterator[Difference]:
    """Yield what changes from OLD to NEW; an image of another kind is one difference."""
    if old == new:
        return
    if isinstance(old, dict) and isinstance(new, dict) and old.get("kind") == new.get("kind"):
        for key in [*old, *(key for key in new if key not in old)]:
            yield from _walk(f"{path}.{key}", old.get(key), new.get(key))
    else:
        yield Difference(path=path, old=old, new=new, effect="replace")


def _of_what_is_remembered(
    applied: VirtualMachine, declared: VirtualMachine
) -> Iterator[Difference]:
    """Yield what concerns later requests: it is remembered, nothing else happens."""
    for path, old, new in (
        ("ready", _forms(applied), _forms(declared)),
        ("ready-timeout", applied.ready_timeout, declared.ready_timeout),
        ("protect", applied.protect, declared.protect),
        ("ignore-drift", list(applied.ignore_drift), list(declared.ignore_drift)),
        ("requires", list(applied.requires), list(declared.requires)),
        ("tags", list(applied.tags), list(declared.tags)),
    ):
        if old != new:
            yield Difference(path=path, old=old, new=new, effect="live")


def _forms(machine: VirtualMachine) -> Value:
    return [_fields(form) for form in machine.ready]


def _of_the_definition(machine: VirtualMachine, domain: ObservedDomain) -> Iterator[Difference]:
    """Yield how DOMAIN starts, and what only goes into its XML."""
    yield from compare("domain.persistent", True, domain.persistent, None)
    for part in domain.lost:
        yield Difference(f"domain.{part}", "gone from its host", "what that has", "live")
    yield from compare("domain.autostart", machine.domain.autostart, domain.autostart, None)
    for field in PLAIN_FIELDS:
        wanted, defined = field.text(machine.domain), domain.defined.plain.get(field.name)
        # What no guest notices is as wanted as soon as it is defined.
        noticed = domain.live if field.in_xml.effect == "restart" else None
        live = noticed.plain.get(field.name) if noticed else wanted
        if live != wanted:
            yield Difference(field.path, live, wanted, "restart", pending=defined == wanted)
        elif defined != wanted:
            yield Difference(field.path, defined, wanted, "live")


def _of_resources(
    machine: VirtualMachine, applied: Generation, defined: Hardware, live: Hardware | None
) -> Iterator[Difference]:
    declared = machine.domain
    maximum_memory = defined_memory(declared.maximum_memory)
    # A guest that runs with a higher limit than declared need not notice.
    if declared.virtualization != "auto":
        yield from compare(
            "domain.virtualization",
            declared.virtualization,
            defined.domain_type,
            live.domain_type if live else None,
        )
    if declared.firmware == applied.declaration.domain.firmware:
        # What others made of it; another one that is declared takes another root.
        yield from compare(
            "domain.firmware",
            declared.firmware,
            defined.firmware,
            live.firmware if live else None,
        )
    for path, there, live_there in (
        ("domain.console", defined.console, live.console if live else None),
        ("domain.agent-channel", defined.agent_channel, live.agent_channel if live else None),
    ):
        yield from compare(path, True, there, live_there)
    yield from compare(
        "domain.maximum-cpu",
        declared.maximum_cpu,
        defined.maximum_cpu,
        min(live.maximum_cpu, declared.maximum_cpu) if live else None,
    )
    yield from compare(
        "domain.cpu",
        declared.cpu,
        defined.cpu,
        live.cpu if live else None,
        "live" if live is not None and _plugs(live, declared.cpu) else "restart",
    )
    yield from compare(
        "domain.maximum-memory",
        maximum_memory,
        defined.maximum_memory,
        min(live.maximum_memory, maximum_memory) if live else None,
    )
    yield from _of_interfaces(machine, applied, defined, live)


def _of_memory(machine: VirtualMachine, domain: ObservedDomain) -> Iterator[Difference]:
    memory, defined, live = defined_memory(machine.domain.memory), domain.defined, domain.live
    if domain.without_balloon and defined.memory == memory:
        # It was told already, and nothing in the guest listens.
        yield Difference(
            "domain.memory", live.memory if live else None, memory, "none", pending=True
        )
        return
    yield from compare(
        "domain.memory",
        memory,
        defined.memory,
        live.memory if live else None,
        "live" if live is not None and memory <= live.maximum_memory else "restart",
    )


def _of_the_attached_root(applied: Generation, domain: ObservedDomain) -> Iterator[Difference]:
    if domain.root_gone:
        yield Difference(path="root", old="gone", new=applied.volume, effect="replace")
        return
    yield from compare(
        "root",
        applied.volume,
        _attached(domain.defined, applied.volume) or "detached",
        (_attached(domain.live, applied.volume) or "detached") if domain.live else None,
    )


def _plugs(live: Hardware, cpu: int) -> bool:
    """Whether the running guest can be given CPU vCPUs.

    To take one away needs the guest's help, and libvirt does not learn of its refusal.
    """
    return live.cpu <= cpu <= live.maximum_cpu


def _of_interfaces(
    machine: VirtualMachine, applied: Generation, defined: Hardware, live: Hardware | None
) -> Iterator[Difference]:
    declared = {i.mac_address: i for i in machine.domain.networking}
    ours = [i.mac_address for i in applied.declaration.domain.networking]
    for mac in [*declared, *(mac for mac in ours if mac not in declared)]:
        yield from compare(
            f"domain.networking.{mac}",
            _wanted(declared.get(mac)),
            _connection(_find(defined, mac)),
            _connection(_find(live, mac)) if live else None,
            "live",
        )


def _wanted(networking: Networking | None) -> str:
    return ABSENT if networking is None else networking.network


def _connection(interface: ObservedInterface | None) -> str:
    if interface is None:
        return ABSENT
    network = interface.network or "no network"
    return network if interface.link else f"{network}, link down"


def _find(hardware: Hardware, mac: str) -> ObservedInterface | None:
    return next((i for i in hardware.interfaces if i.mac_address == mac), None)


def _attached(hardware: Hardware, volume: str) -> str | None:
    return next((volume for disk in hardware.disks if file_name(disk) == volume), None)

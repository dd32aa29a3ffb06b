# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared, as a graph: what stands on what, and what is connected with what; pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Literal, TypeAlias

import msgspec

from pyguixvm.model.declaration import BlockDevice, DataDisk, VirtualMachine
from pyguixvm.model.sizes import format_size

Kind: TypeAlias = Literal["hypervisor", "network", "pool", "machine", "disk"]
KINDS: tuple[Kind, ...] = ("hypervisor", "network", "pool", "machine", "disk")


class Node(msgspec.Struct, frozen=True):
    """Something of KIND that is called LABEL; what is of another hypervisor has another ID."""

    id: str
    kind: Kind
    label: str


class Edge(msgspec.Struct, frozen=True):
    """From the node START to the node END, which LABEL says more about."""

    start: str
    end: str
    label: str = ""


class Graph(msgspec.Struct, frozen=True):
    """NODES and EDGES, each once, in the order in which they are declared."""

    nodes: tuple[Node, ...]
    edges: tuple[Edge, ...]


def graph(machines: Iterable[VirtualMachine], default: str) -> Graph:
    """Return the graph of MACHINES; those that name no hypervisor are at the DEFAULT one."""
    nodes: dict[str, Node] = {}
    edges: dict[Edge, None] = {}
    for machine in machines:
        for part in _parts(machine, machine.hypervisor or default):
            if isinstance(part, Node):
                nodes.setdefault(part.id, part)
            else:
                edges[part] = None
    known = nodes.keys()
    whole = (edge for edge in edges if edge.start in known and edge.end in known)
    return Graph(tuple(nodes.values()), tuple(whole))


def _parts(machine: VirtualMachine, uri: str) -> Iterator[Node | Edge]:
    """Yield the nodes and edges of MACHINE at URI; what it requires may be yet to come."""
    domain, me = machine.domain, f"machine {machine.name}"
    yield Node(f"hypervisor {uri}", "hypervisor", uri)
    tags = f" [{', '.join(machine.tags)}]" if machine.tags else ""
    size = f"{domain.cpu} CPU, {format_size(domain.memory)}"
    yield Node(me, "machine", f"{machine.name}{tags} ({size})")
    for interface in domain.networking:
        network = f"network {interface.network} {uri}"
        yield Node(network, "network", interface.network)
        yield Edge(f"hypervisor {uri}", network)
        yield Edge(network, me, interface.mac_address)
    pool = f"pool {domain.pool} {uri}"
    yield Node(pool, "pool", domain.pool)
    yield Edge(f"hypervisor {uri}", pool)
    yield Edge(pool, me, format_size(domain.storage))
    for disk in domain.disks:
        match disk:
            case DataDisk():
                yield Node(f"{me} {disk.name}", "disk", f"{disk.name} ({format_size(disk.size)})")
                yield Edge(me, f"{me} {disk.name}", disk.target or "")
            case BlockDevice():
                yield Node(f"{me} {disk.device}", "disk", disk.device)
                yield Edge(me, f"{me} {disk.device}")
    for name in machine.requires:
        yield Edge(me, f"machine {name}", "requires")

# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared, drawn."""

from __future__ import annotations

import pytest
from declarations import GIB, domain, machine
from lxml import etree

from pyguixvm.cli.graph import dot, mermaid, svg
from pyguixvm.commands.guest_ssh import through
from pyguixvm.model.declaration import DataDisk
from pyguixvm.plan.graph import Graph, graph

DISK = DataDisk(name="db", size=20 * GIB, file_system="ext4", target="/srv/<db>")
FAR = "qemu+ssh://far/system"


def drawn() -> Graph:
    db = machine("db", domain=domain(disks=(DISK,)), hypervisor=FAR)
    return graph([machine("web", requires=("db", "gone"), tags=("front",)), db], "qemu:///system")


def test_what_is_of_two_hypervisors_is_two_things() -> None:
    nodes = [(node.kind, node.label) for node in drawn().nodes]
    assert nodes == [
        ("hypervisor", "qemu:///system"),
        ("machine", "web [front] (1 CPU, 1G)"),
        ("network", "default"),
        ("pool", "default"),
        ("hypervisor", FAR),
        ("machine", "db (1 CPU, 1G)"),
        ("network", "default"),
        ("pool", "default"),
        ("disk", "db (20G)"),
    ]


def test_edges_lead_to_what_is_there() -> None:
    found = [(edge.start, edge.end, edge.label) for edge in drawn().edges]
    assert ("machine web", "machine db", "requires") in found
    assert ("machine db", "machine db db", "/srv/<db>") in found
    assert not [edge for edge in found if "gone" in edge[1]]
    assert len(found) == len({*found})


def test_graphviz_and_mermaid() -> None:
    text = "\n".join(dot(drawn()))
    assert text.startswith("digraph {")
    assert 'n1 -> n5 [label="requires", style=dashed];' in text
    text = "\n".join(mermaid(drawn()))
    assert 'n1 -.->|"requires"| n5' in text
    assert "/srv/#60;db#62;" in text


def test_the_picture_is_whole() -> None:
    picture = etree.fromstring("\n".join(svg(drawn())))
    of = {"s": "http://www.w3.org/2000/svg"}
    assert len(picture.findall("s:rect", of)) == len(drawn().nodes)
    assert len(picture.findall("s:path", of)) == len(drawn().edges)
    assert "/srv/<db>" in [title.text for title in picture.iterfind("s:path/s:title", of)]
    width, height = float(picture.get("width", "")), float(picture.get("height", ""))
    for box in picture.iterfind("s:rect", of):
        assert float(box.get("x", "")) + float(box.get("width", "")) <= width
        assert float(box.get("y", "")) + float(box.get("height", "")) <= height


def test_nothing_is_drawn_of_nothing() -> None:
    etree.fromstring("\n".join(svg(Graph((), ()))))


@pytest.mark.parametrize(
    ("uri", "command"),
    [
        ("qemu:///system", None),
        ("qemu+tls://host/system", None),
        ("qemu+ssh:///system", None),
        ("qemu+ssh://host/system", "ssh -W %h:%p host"),
        ("qemu+libssh://me@host:22/system", "ssh -p 22 -W %h:%p me@host"),
        ("qemu+ssh://h/system?keyfile=/a%20b%25&command=/my/ssh",
         "/my/ssh -i '/a b%%' -W %h:%p h"),
    ],
)  # fmt: skip
def test_the_way_to_a_guest_leads_through_its_hypervisor(uri: str, command: str | None) -> None:
    assert through(uri) == command

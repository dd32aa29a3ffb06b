# SPDX-License-Identifier: GPL-3.0-or-later
"""Run by a copy of pyguixvm with more plain fields: what becomes of them, as JSON."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from declarations import domain, machine
from lxml import etree

import pyguixvm
from pyguixvm.cli.differences import difference_lines
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import LibvirtDomain, VirtualMachine
from pyguixvm.model.observation import ObservedDomain
from pyguixvm.plan.drift import differences
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.inspection import inspect_domain
from pyguixvm.xml.text import parse
from pyguixvm.xml.update import updated_xml

ROOT = "pyguixvm-web.g1.qcow2"


def told(**fields: Any) -> VirtualMachine:
    """Return the machine that the evaluator tells with FIELDS of its domain."""
    said = msgspec.to_builtins(domain()) | fields
    return machine(domain=msgspec.convert(said, LibvirtDomain))


def written(declared: VirtualMachine) -> str:
    return domain_xml(
        DomainDefinition(machine=declared, root=f"/pool/{ROOT}", backing=(), domain_type="qemu")
    )


def shown(declared: VirtualMachine, defined: str, live: str | None) -> list[str]:
    """Return how a machine with the XML DEFINED and LIVE differs from what is DECLARED."""
    generation = Generation(
        number=1, date="", label="", pool="default", volume=ROOT, image="", declaration=declared
    )
    there = ObservedDomain(
        name="web",
        uuid="",
        state="running" if live else "shut off",
        autostart=True,
        persistent=True,
        defined=inspect_domain(defined).hardware,
        live=inspect_domain(live).hardware if live else None,
        metadata=Metadata(current=1, generations=(generation,)),
    )
    return list(difference_lines(differences(declared, there)))


def elements(xml: str) -> list[str]:
    """Return the elements of the domain XML that are made up."""
    made_up = parse(xml).xpath("*[starts-with(local-name(), 'x-')]")
    return [etree.tostring(each, encoding="unicode") for each in made_up]


without, declared = told(), told(**{"boot-colour": "red", "sound-volume": 11, "cold": True})
old, new = written(without), written(declared)
print(
    json.dumps(
        {
            "package": pyguixvm.__file__,
            "written": elements(new),
            "updated": elements(updated_xml(old, new)),
            "taken back": elements(updated_xml(new, old)),
            "as declared": shown(declared, new, new),
            "running": shown(declared, old, old),
            "pending": shown(declared, new, old),
            "off": shown(declared, old, None),
            "no longer declared": shown(without, new, new),
        }
    )
)

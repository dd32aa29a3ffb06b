# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain fields of a domain in its XML: written, replaced and read."""

from __future__ import annotations

from lxml import etree

from pyguixvm.errors import EvaluationError
from pyguixvm.model.declaration import LibvirtDomain, VirtualMachine
from pyguixvm.model.plain_fields import PLAIN_FIELDS
from pyguixvm.xml.text import unrepresentable


def require_representable(machine: VirtualMachine) -> None:
    """Raise EvaluationError if libvirt cannot store a plain field of MACHINE."""
    for field in PLAIN_FIELDS:
        text = field.text(machine.domain)
        if text is None:
            continue
        bad = unrepresentable(text)
        if bad is None and field.in_xml.one_line and "\n" in text:
            bad = "\n"  # libvirt: "Domain title can't contain newlines"
        if bad is not None:
            raise EvaluationError(
                f"machine '{machine.name}': {field.name} {text!r} contains {bad!r}, "
                "which libvirt cannot store",
                hint="remove that character",
                location=str(machine.location),
            )


def write(domain: LibvirtDomain, xml: etree._Element) -> None:
    """Put the plain fields of DOMAIN into XML, the ``<domain>`` that is to be."""
    # What is said of a domain as a whole comes first, behind what it is called.
    index = sum(child.tag in {"name", "uuid"} for child in xml)
    for field in PLAIN_FIELDS:
        text = field.text(domain)
        if text is not None:
            length = len(xml)
            _put(xml, field.in_xml.at, text, index)
            index += len(xml) - length


def replace(xml: etree._Element, declared: etree._Element) -> None:
    """Make the plain fields in the domain XML what they are in the domain DECLARED."""
    for field in PLAIN_FIELDS:
        at = field.in_xml.at
        text = _get(declared, at)
        if text == _get(xml, at):
            continue
        if text is None:
            _take(xml, at)
        else:
            # Libvirt reads the children of <domain> in any order.
            _put(xml, at, text, len(xml))
            _replace_attributes_beside(xml, declared, at)


def _replace_attributes_beside(xml: etree._Element, declared: etree._Element, at: str) -> None:
    """Have beside the attribute AT its place only what is DECLARED there.

    What somebody gave to another value (a time zone to a clock) need not go with this one.
    """
    tags, attribute = _parted(at)
    here, there = (root.find("/".join(tags)) for root in (xml, declared))
    if attribute is not None and here is not None and there is not None:
        here.attrib.clear()
        here.attrib.update(dict(there.attrib))


def read(xml: etree._Element) -> dict[str, str]:
    """Return the plain fields that stand in the domain XML, by their names."""
    found = {field.name: _get(xml, field.in_xml.at) for field in PLAIN_FIELDS}
    return {name: text for name, text in found.items() if text is not None}


def _parted(at: str) -> tuple[list[str], str | None]:
    """Return the tags on the way AT, and the attribute at its end, None for text."""
    *tags, last = at.split("/")
    return (tags, last[1:]) if last.startswith("@") else ([*tags, last], None)


def _get(xml: etree._Element, at: str) -> str | None:
    tags, attribute = _parted(at)
    found = xml.find("/".join(tags))
    if found is None:
        return None
    return found.text or "" if attribute is None else found.get(attribute)


def _put(xml: etree._Element, at: str, text: str, index: int) -> None:
    """Have TEXT stand AT its place in XML, in a new child at INDEX if there is none."""
    tags, attribute = _parted(at)
    holder = xml
    for tag in tags:
        child = holder.find(tag)
        if child is None:
            child = etree.Element(tag)
            holder.insert(index if holder is xml else len(holder), child)
        holder = child
    if attribute is None:
        holder.text = text
    else:
        holder.set(attribute, text)


def _take(xml: etree._Element, at: str) -> None:
    """Have nothing stand AT its place in XML, nor an element that held nothing else."""
    tags, attribute = _parted(at)
    found = xml.find("/".join(tags))
    if found is None:
        return
    if attribute is None:
        found.text = None
    elif attribute in found.attrib:
        del found.attrib[attribute]
    while found is not xml and not (len(found) or found.attrib or found.text):
        holder = found.getparent()
        assert holder is not None  # noqa: S101 -- for mypy: it was found below XML
        holder.remove(found)
        found = holder

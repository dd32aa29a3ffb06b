# SPDX-License-Identifier: GPL-3.0-or-later
"""Our element in a domain's ``<metadata>``: one JSON document in one element.

Libvirt keeps one element for each namespace and leaves those of other tools
alone (https://libvirt.org/formatdomain.html, "General metadata").
"""

from __future__ import annotations

import json

import msgspec
from lxml import etree

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.generation import Metadata

NAMESPACE = "urn:pyguixvm:metadata:1"
PREFIX = "pyguixvm"
SCHEMA = 1

_TAG = f"{{{NAMESPACE}}}machine"


class UnreadableMetadataError(RequestRefusedError):
    """A domain is ours, but what it remembers cannot be understood."""


def metadata_element(metadata: Metadata) -> etree._Element:
    """Return METADATA as the element that a domain's XML carries."""
    element = etree.Element(_TAG, nsmap={PREFIX: NAMESPACE}, schema=str(SCHEMA))
    element.text = _json(metadata)
    return element


def metadata_xml(metadata: Metadata) -> str:
    """Return METADATA as ``virDomainSetMetadata`` wants it: libvirt adds the namespace."""
    element = etree.Element("machine", schema=str(SCHEMA))
    element.text = _json(metadata)
    return etree.tostring(element, encoding="unicode")


def read_metadata(domain: etree._Element) -> Metadata | None:
    """Return what DOMAIN remembers, or None if it is not ours.

    Raises `UnreadableMetadataError` if another version of pyguixvm, or
    another hand, wrote what this version does not understand.
    """
    element = domain.find(f"metadata/{_TAG}")
    if element is None:
        return None
    name = domain.findtext("name", default="?")
    schema = element.get("schema", "")
    if schema.isdecimal() and int(schema) > SCHEMA:
        raise UnreadableMetadataError(
            f"domain '{name}' was deployed by a newer pyguixvm: its metadata has schema "
            f"{schema}, this version reads up to {SCHEMA}",
            hint="use the newer pyguixvm for this machine",
        )
    try:
        if schema != str(SCHEMA):
            raise ValueError(f"schema is {schema!r}")  # noqa: TRY301 -- one sentence for all
        return msgspec.json.decode(element.text or "", type=Metadata)
    except ValueError as error:
        raise UnreadableMetadataError(
            f"domain '{name}' carries damaged metadata of pyguixvm: {error}",
            hint=f"see 'virsh metadata {name} {NAMESPACE}'; the domain is left alone",
        ) from error


def _json(metadata: Metadata) -> str:
    """METADATA as JSON in ASCII: XML cannot hold every character, JSON's escapes can."""
    return json.dumps(msgspec.to_builtins(metadata), ensure_ascii=True, separators=(",", ":"))

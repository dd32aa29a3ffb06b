# SPDX-License-Identifier: GPL-3.0-or-later
"""Our element in a domain's ``<metadata>``: one JSON document in one element.

Libvirt keeps one element for each namespace and leaves those of other tools
alone (https://libvirt.org/formatdomain.html, "General metadata").
"""

from __future__ import annotations

import json
from collections.abc import Callable

import msgspec
from lxml import etree

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata

NAMESPACE = "urn:pyguixvm:metadata:1"
PREFIX = "pyguixvm"
SCHEMA = 1

_TAG = f"{{{NAMESPACE}}}machine"


class UnreadableMetadataError(RequestRefusedError):
    """A domain is ours, but what it remembers cannot be understood."""


class StrayMetadataError(UnreadableMetadataError):
    """A domain carries what belongs to another one, or to one of another name.

    RENAMED_FROM is the machine that it is, or may be, under a name that somebody else
    gave it; None for a copy.
    """

    def __init__(self, message: str, *, hint: str, renamed_from: str | None = None) -> None:
        """Keep the name of the machine beside the words."""
        super().__init__(message, hint=hint)
        self.renamed_from = renamed_from


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


def read_metadata(
    domain: etree._Element, exists: Callable[[str], bool] = lambda _: False
) -> Metadata | None:
    """Return what DOMAIN remembers, or None if it is not ours.

    EXISTS tells whether its hypervisor has a domain of a name.  Raises
    `UnreadableMetadataError` if another version of pyguixvm, or another hand, wrote
    what this version does not understand, and `StrayMetadataError` if it belongs to
    another domain: this one is a copy, or was renamed.
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
        metadata = msgspec.json.decode(element.text or "", type=Metadata)
        machine = metadata.machine
    except (ValueError, LookupError) as error:
        raise UnreadableMetadataError(
            f"domain '{name}' carries damaged metadata of pyguixvm: {error}",
            hint=f"see 'virsh metadata {name} {NAMESPACE}'; the domain is left alone",
        ) from error
    _require_own(metadata, machine, name, domain.findtext("uuid", default=""), exists)
    return metadata


def _require_own(
    metadata: Metadata, machine: str, name: str, uuid: str, exists: Callable[[str], bool]
) -> None:
    """Raise `StrayMetadataError` unless METADATA of MACHINE is that of the domain NAME of UUID."""
    ordinary = (
        f"'virsh metadata {name} {NAMESPACE} --remove --config' makes it a domain like any other"
    )
    if metadata.uuid not in {None, uuid}:
        again = (
            f"; to have the machine back, undefine it and define its XML with the UUID "
            f"{metadata.uuid}"
            if name == machine
            else ""
        )
        raise StrayMetadataError(
            f"domain '{name}' is a copy of machine '{machine}', made by virt-clone perhaps",
            hint=f"It is left alone: {ordinary}{again}.",
        )
    if name == machine:
        return
    rename = f"'virsh domrename {name} {machine}' gives it its name again, once it is shut off"
    if metadata.uuid is not None:
        raise StrayMetadataError(
            f"domain '{name}' was renamed from '{machine}'",
            hint=f"It is left alone: {rename}.",
            renamed_from=machine,
        )
    if exists(machine):
        raise StrayMetadataError(
            f"domain '{name}' is a copy of machine '{machine}', which exists, too",
            hint=f"It is left alone: {ordinary}.",
        )
    raise StrayMetadataError(
        f"domain '{name}' was renamed from '{machine}', or is a copy of that, which is gone",
        hint=f"It is left alone: {rename}; if it is a copy, {ordinary}.",
        renamed_from=machine,
    )


def _json(metadata: Metadata) -> str:
    """METADATA as JSON in ASCII: XML cannot hold every character, JSON's escapes can."""
    return json.dumps(msgspec.to_builtins(metadata), ensure_ascii=True, separators=(",", ":"))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Our element in a domain's ``<metadata>``: one JSON document in one element.

Libvirt keeps one element for each namespace and leaves those of other tools
alone (https://libvirt.org/formatdomain.html, "General metadata").  The current
generation is there to be read by anybody; the others, which differ from it in little,
are packed into ``<history>`` inside it, so that it does not grow with every save.
"""

from __future__ import annotations

import base64
import json
import re
import zlib
from collections.abc import Callable
from typing import Any

from lxml import etree

from pyguixvm.advice import words
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.record import SCHEMA, from_plain, plain, schema_of

NAMESPACE = "urn:pyguixvm:metadata:1"
PREFIX = "pyguixvm"

_TAG = f"{{{NAMESPACE}}}machine"
_HISTORY = "history"
_NUMBER = re.compile("[0-9]{1,9}")
# More than libvirt would take from anybody (4 MiB packed), and less than harms us (bytes).
_LONGEST_HISTORY = 64 * 1024**2


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
    return _filled(etree.Element(_TAG, nsmap={PREFIX: NAMESPACE}), metadata)


def metadata_xml(metadata: Metadata) -> str:
    """Return METADATA as ``virDomainSetMetadata`` wants it: libvirt adds the namespace."""
    return etree.tostring(_filled(etree.Element("machine"), metadata), encoding="unicode")


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
    schema = _schema(element)
    if schema is not None and schema > SCHEMA:
        raise UnreadableMetadataError(
            f"domain '{name}' was deployed by a newer pyguixvm: its metadata has schema "
            f"{schema}, this version reads up to {SCHEMA}",
            hint="use the newer pyguixvm for this machine",
        )
    try:
        metadata = _content(element)
        machine = metadata.machine
    except (ValueError, TypeError, LookupError, RecursionError) as error:
        raise UnreadableMetadataError(
            f"domain '{name}' carries damaged metadata of pyguixvm: {error}",
            hint=f"see 'virsh metadata {words(name, NAMESPACE)}'; the domain is left alone",
        ) from error
    _require_own(metadata, machine, name, domain.findtext("uuid", default=""), exists)
    return metadata


def _require_own(
    metadata: Metadata, machine: str, name: str, uuid: str, exists: Callable[[str], bool]
) -> None:
    """Raise `StrayMetadataError` unless METADATA of MACHINE is that of the domain NAME of UUID."""
    ordinary = (
        f"'virsh metadata --remove --config {words(name, NAMESPACE)}' makes it a domain like any "
        "other"
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
    rename = (
        f"'virsh domrename {words(name, machine)}' gives it its name again, once it is shut off"
    )
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


def _filled(element: etree._Element, metadata: Metadata) -> etree._Element:
    """Return ELEMENT with METADATA in it: the current generation as text, the others packed."""
    data = plain(metadata)
    generations = data["generations"]
    current = [each for each in generations if each["number"] == metadata.current]
    others = [each for each in generations if each["number"] != metadata.current]
    element.set("schema", str(schema_of(metadata)))
    element.text = _json(data | {"generations": current})
    if others:
        history = etree.SubElement(element, etree.QName(etree.QName(element).namespace, _HISTORY))
        history.text = base64.b64encode(zlib.compress(_json(others).encode(), 9)).decode()
    return element


def _schema(element: etree._Element) -> int | None:
    """Return the schema of ELEMENT, None if what it says is no such number."""
    text = element.get("schema", "")
    # Python takes other scripts' digits, too, and refuses long numbers.
    return int(text) if _NUMBER.fullmatch(text) else None


def _content(element: etree._Element) -> Metadata:
    """Return what ELEMENT holds; raises ValueError if it is damaged."""
    schema = _schema(element)
    if schema is None:
        raise ValueError(f"schema is {element.get('schema', '')[:20]!r}")
    data = json.loads(element.text or "")
    # Libvirt gives it our namespace, or leaves it without one, as it was handed over.
    packed = element.findtext(f"{{*}}{_HISTORY}")
    if packed is not None and isinstance(data, dict):
        generations = [*data["generations"], *_unpacked(packed)]
        data["generations"] = sorted(generations, key=lambda each: each["number"])
    return from_plain(data, schema)


def _unpacked(packed: str) -> list[Any]:
    unpacker = zlib.decompressobj()
    try:
        text = unpacker.decompress(base64.b64decode(packed, validate=True), _LONGEST_HISTORY)
    except zlib.error as error:
        raise ValueError(f"its history: {error}") from error
    if not unpacker.eof:
        raise ValueError("its history is broken off, or too long")
    generations = json.loads(text)
    if not isinstance(generations, list):
        raise ValueError("its history is no list")  # noqa: TRY004 -- damaged, whatever it is
    return generations


def _json(data: object) -> str:
    """DATA as JSON in ASCII: XML cannot hold every character, JSON's escapes can."""
    return json.dumps(data, ensure_ascii=True, separators=(",", ":"))

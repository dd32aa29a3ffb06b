# SPDX-License-Identifier: GPL-3.0-or-later
"""Between XML text and elements: hostile or damaged XML never gets further."""

from __future__ import annotations

import re
from collections.abc import Mapping

from lxml import etree

# What the Char production of XML 1.0 leaves out; libvirt cannot store it in any form.
_NOT_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def parse(xml: str) -> etree._Element:
    """Return the root element of XML; entities and external documents are left unread.

    Raises `ValueError` when XML is not well formed.
    """
    # As deep as it may be (huge_tree): what others put into the metadata of a domain is deeper
    # there, by the elements around it, than libxml2 allows by itself.
    parser = etree.XMLParser(
        resolve_entities=False, no_network=True, remove_blank_text=True, huge_tree=True
    )
    try:
        return etree.fromstring(xml.encode(), parser)
    except etree.XMLSyntaxError as error:
        raise ValueError(f"not well-formed XML: {error}") from error


def element(tag: str, *parts: Mapping[str, str] | str | etree._Element) -> etree._Element:
    """Return a new element TAG with PARTS: attributes, text, or children in their order.

    Text stands alone in its element: it is data, never markup.
    """
    made = etree.Element(tag)
    for part in parts:
        if isinstance(part, str):
            made.text = part
        elif isinstance(part, etree._Element):
            made.append(part)
        else:
            for key, value in part.items():
                made.set(key, value)
    return made


def render(root: etree._Element) -> str:
    """Return ROOT as indented text, ended by a newline."""
    return etree.tostring(root, pretty_print=True, encoding="unicode")


def unrepresentable(text: str) -> str | None:
    """Return the first character of TEXT that XML 1.0 has no way to hold, or None."""
    found = _NOT_XML.search(text)
    return found.group() if found else None

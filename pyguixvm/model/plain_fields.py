# SPDX-License-Identifier: GPL-3.0-or-later
"""The plain fields of a domain, as `LibvirtDomain` tells them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import get_args

import msgspec

from pyguixvm.model.declaration import InXml, LibvirtDomain


class PlainField(msgspec.Struct, frozen=True):
    """A field of `LibvirtDomain` that stands in its XML as IN_XML says; ATTRIBUTE is Python's.

    NAME is Scheme's, as people are told it.
    """

    name: str
    attribute: str
    in_xml: InXml

    @property
    def path(self) -> str:
        """What it is called where differences are told."""
        return f"domain.{self.name}"

    def text(self, domain: LibvirtDomain) -> str | None:
        """Return what DOMAIN declares as XML has it, or None if it declares nothing."""
        value = getattr(domain, self.attribute)
        if isinstance(value, bool):
            return self.in_xml.booleans[value]
        return None if value is None else str(value)


def _plain_fields() -> Iterator[PlainField]:
    for field in msgspec.structs.fields(LibvirtDomain):
        for said in get_args(field.type):
            if isinstance(said, InXml):
                yield PlainField(field.encode_name, field.name, said)


PLAIN_FIELDS = tuple(_plain_fields())

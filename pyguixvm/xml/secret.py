# SPDX-License-Identifier: GPL-3.0-or-later
"""Secret XML (https://libvirt.org/formatsecret.html)."""

from __future__ import annotations

from pyguixvm.xml.text import element, parse, render


def secret_xml(uuid: str, usage: str, description: str) -> str:
    """Return the XML that defines a secret which is kept, and can be read again.

    A hypervisor has at most one secret of each kind with the same USAGE.
    """
    return render(
        element(
            "secret",
            {"ephemeral": "no", "private": "no"},
            element("uuid", uuid),
            element("description", description),
            # Of libvirt's kinds this is one whose usage is nothing but a name.
            element("usage", {"type": "ceph"}, element("name", usage)),
        )
    )


def description(xml: str) -> str:
    """Return what the secret described by XML says of itself."""
    return parse(xml).findtext("description") or ""

# SPDX-License-Identifier: GPL-3.0-or-later
"""Storage pool XML (https://libvirt.org/formatstorage.html)."""

from __future__ import annotations

from pyguixvm.xml.text import element, parse, render


def directory_pool_xml(name: str, path: str) -> str:
    """Return the XML of a pool NAME whose volumes are files in the directory PATH.

    Its mode lets QEMU's user reach the volumes, and nobody list them: as
    libvirt's packages ship /var/lib/libvirt/images.
    """
    return render(
        element(
            "pool",
            {"type": "dir"},
            element("name", name),
            element(
                "target", element("path", path), element("permissions", element("mode", "0711"))
            ),
        )
    )


def pool_path(xml: str) -> str | None:
    """Return the directory in which the pool described by XML keeps its volumes, if any."""
    return parse(xml).findtext("target/path")


def pool_type(xml: str) -> str:
    """Return what kind of pool XML describes: ``dir``, ``logical`` …"""
    return parse(xml).get("type", "")

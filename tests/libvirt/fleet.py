# SPDX-License-Identifier: GPL-3.0-or-later
"""Many machines of ours at libvirt's test driver, which needs neither QEMU nor rights."""

import os
from contextlib import contextmanager

from lxml import etree

from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.declaration import LibvirtDomain, Location, VirtualMachine
from pyguixvm.model.image import LocalImage
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.text import parse

MIB = 1024**2


def machine(name, image="/image", **fields):
    domain = {
        "cpu": 1, "maximum_cpu": 1, "memory": 256 * MIB, "maximum_memory": 256 * MIB,
        "storage": 16 * MIB, "networking": (), "kernel_arguments": (), "autostart": False,
        "pool": "default-pool", "firmware": "bios", "virtualization": "auto",
    }  # fmt: skip
    return VirtualMachine(
        name=name,
        location=Location(file="config.scm", line=1, column=0),
        image=LocalImage(path=image, format="raw", size=1, modified=1),
        domain=LibvirtDomain(**domain | fields),
        ready=(),
        ready_timeout=120,
    )


def metadata(declared):
    first = Generation(
        number=1, date="2026-01-31T12:00:00+00:00", label="GNU", pool=declared.domain.pool,
        volume=generation_volume(declared.name, 1), image="/image", declaration=declared,
    )  # fmt: skip
    return Metadata(current=1, generations=(first,))


def node(machines, directory="/default-pool"):
    """Return the XML of a test driver's host with MACHINES, and their metadata, all of them on.

    Their volumes are in DIRECTORY.
    """
    root = etree.Element("node")
    for declared in machines:
        xml = domain_xml(
            DomainDefinition(
                machine=declared,
                root=f"{directory}/{generation_volume(declared.name, 1)}",
                backing=(),
                domain_type="qemu",
                metadata=metadata(declared),
            )
        )
        domain = parse(xml)
        domain.set("type", "test")
        # What the driver does not know.
        known = "self::disk or self::interface or self::serial or self::console or self::channel"
        for device in domain.xpath(f"//devices/*[not({known})]"):
            device.getparent().remove(device)
        for security in domain.xpath("//seclabel"):
            security.getparent().remove(security)
        root.append(domain)
    pool = etree.SubElement(root, "pool", type="dir")
    etree.SubElement(pool, "name").text = "default-pool"
    etree.SubElement(etree.SubElement(pool, "target"), "path").text = str(directory)
    for declared in machines:
        volume = etree.SubElement(pool, "volume")
        etree.SubElement(volume, "name").text = generation_volume(declared.name, 1)
        etree.SubElement(volume, "capacity").text = str(declared.domain.storage)
    return etree.tostring(root)


@contextmanager
def fleet(directory, count, **fields):
    """Yield the URI of a test driver with COUNT machines of ours."""
    declared = [machine(f"m{number:03}", **fields) for number in range(count)]
    file = directory / f"node-{os.getpid()}-{count}.xml"
    file.write_bytes(node(declared))
    yield f"test://{file}"

# SPDX-License-Identifier: GPL-3.0-or-later
"""A new volume goes on the root alone."""

from pyguixvm.xml.snapshot import root_of, snapshot_xml
from pyguixvm.xml.text import parse

DOMAIN = """<domain><devices>
<disk type='file' device='disk'><source file='/pool/g1'/><target dev='vda' bus='virtio'/></disk>
<disk type='file' device='disk'><target dev='vdb' bus='virtio'/></disk>
</devices></domain>"""


def test_every_disk_but_the_root_is_left_out() -> None:
    root, data = parse(snapshot_xml(DOMAIN, "/pool/a & b.qcow2")).iterfind("disks/disk")
    assert (root.get("name"), root.get("snapshot")) == ("vda", "external")
    assert root.find("source").attrib == {"file": "/pool/a & b.qcow2"}
    assert root.find("driver").attrib == {"type": "qcow2"}
    assert (data.get("name"), data.get("snapshot"), len(data)) == ("vdb", "no", 0)


def test_the_root_is_the_disk_that_guests_boot_from() -> None:
    assert root_of(DOMAIN) == "/pool/g1"
    assert root_of("<domain><devices/></domain>") is None

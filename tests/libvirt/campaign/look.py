# SPDX-License-Identifier: GPL-3.0-or-later
"""What there is, as others see it: by libvirt's XML, and by qemu-img and the files themselves."""

import contextlib
import hashlib
import json
import subprocess

import libvirt
import msgspec

from pyguixvm.model.volume_names import data_of, is_ours
from pyguixvm.xml.text import parse


class Disk(msgspec.Struct, frozen=True):
    """A disk at TARGET of a definition: its SERIAL, its file, and what its guest reads there.

    WHOLE: that file and all below it are there, and can be opened.
    """

    target: str
    serial: str | None
    source: str
    mark: str | None
    whole: bool


class Domain(msgspec.Struct, frozen=True):
    """A domain; XML is a digest of its definition, RUNS_ON the files that it has open."""

    uuid: str
    running: bool
    state: int
    xml: str
    disks: tuple[Disk, ...]
    runs_on: frozenset[str]


class Seen(msgspec.Struct, frozen=True):
    """All of a scene: DOMAINS by name, DATA, what our data volumes hold, by their paths.

    FILES are the paths of all that there are in the pool, and THEIRS those that are not ours
    with size and time of change.
    """

    domains: dict[str, Domain]
    data: dict[str, str | None]
    files: frozenset[str]
    theirs: dict[str, tuple[int, int]]


def look(scene, connection):
    """Return what there is in SCENE."""
    names = (*scene.names, scene.theirs)
    domains = {}
    for handle in connection.handle.listAllDomains():
        with contextlib.suppress(libvirt.libvirtError):
            if any(handle.name().startswith(name) for name in names):
                domains[handle.name()] = _domain(handle)
    files = [each for each in scene.path.iterdir() if each.is_file()]
    return Seen(
        domains=domains,
        data={str(each): mark(each) for each in files if data_of(each.name)},
        files=frozenset(str(each) for each in files),
        theirs={
            str(each): (each.stat().st_size, each.stat().st_mtime_ns)
            for each in files
            if not is_ours(each.name)
        },
    )


def mark(path):
    """Return what a guest would read in the second sector of the image PATH; None if nothing."""
    command = ["qemu-io", "-U", "-r", "-f", "qcow2", "-c", "read -v 512 16", str(path)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode or not done.stdout.startswith("00000200"):
        return None
    return done.stdout[11:58].strip()


def write_mark(connection, name, disk, value):
    """Have the guest of NAME write VALUE to DISK (a definition's), if it can."""
    handle = connection.handle.lookupByName(name)
    with contextlib.suppress(libvirt.libvirtError, subprocess.CalledProcessError):
        if not handle.isActive():
            command = ["qemu-io", "-f", "qcow2", "-c", f"write -P {value} 512 512", disk.source]
            subprocess.run(command, check=True, capture_output=True)
            return
        node = _node(handle, disk.target)
        if node is not None:
            _monitor(handle, f'qemu-io {node} "write -P {value} 512 512"')
            _monitor(handle, f"qemu-io {node} flush")


def _node(handle, target):
    """Return what QEMU calls the top of the disk at TARGET."""
    for disk in parse(handle.XMLDesc()).iterfind("devices/disk"):
        if disk.find("target").get("dev") == target:
            alias = disk.find("alias").get("name")
    done = _qmp("query-block", handle)
    for each in done["return"]:
        if f"/{alias}/" in each.get("qdev", "") and "inserted" in each:
            return each["inserted"]["node-name"]
    return None


def _qmp(command, handle):
    import libvirt_qemu

    return json.loads(libvirt_qemu.qemuMonitorCommand(handle, json.dumps({"execute": command}), 0))


def _monitor(handle, command):
    import libvirt_qemu

    hmp = libvirt_qemu.VIR_DOMAIN_QEMU_MONITOR_COMMAND_HMP
    return libvirt_qemu.qemuMonitorCommand(handle, command, hmp)


def _domain(handle):
    xml = handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE | libvirt.VIR_DOMAIN_XML_SECURE)
    active = bool(handle.isActive())
    return Domain(
        uuid=handle.UUIDString(),
        running=active,
        state=handle.state()[0],
        xml=hashlib.sha256(xml.encode()).hexdigest(),
        disks=tuple(_disks(xml)),
        runs_on=frozenset(each for each in _sources(handle.XMLDesc())) if active else frozenset(),
    )


def _disks(xml):
    for disk in parse(xml).iterfind("devices/disk"):
        source = disk.find("source")
        if source is not None and source.get("file"):
            file = source.get("file")
            driver = disk.find("driver")
            is_qcow2 = driver is not None and driver.get("type") == "qcow2"
            yield Disk(
                target=disk.find("target").get("dev"),
                serial=disk.findtext("serial"),
                source=file,
                mark=mark(file) if is_qcow2 else None,
                whole=_is_whole(file),
            )


def _sources(xml):
    for source in parse(xml).iterfind("devices/disk/source"):
        if source.get("file"):
            yield source.get("file")


def _is_whole(path):
    command = ["qemu-img", "info", "-U", "--backing-chain", "--output=json", path]
    done = subprocess.run(command, capture_output=True, check=False)
    return done.returncode == 0

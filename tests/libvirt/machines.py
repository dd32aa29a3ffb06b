# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines and pools for a test, and their end."""

import itertools
import os
import shutil
from contextlib import contextmanager, suppress

import libvirt
from deploying import some_metadata

from pyguixvm.events import ignore
from pyguixvm.hypervisor import connection as connections
from pyguixvm.hypervisor import data_records, domains, pools, upload
from pyguixvm.model.declaration import (
    AddressReady,
    LibvirtDomain,
    Location,
    Networking,
    VirtualMachine,
)
from pyguixvm.model.image import LocalImage
from pyguixvm.xml.domain import DomainDefinition, domain_xml
from pyguixvm.xml.text import element, parse, render

MIB = 1024**2
PREFIX = f"test{os.getpid()}"
SYSTEM = "qemu:///system"
NUMBERS = itertools.count(1)
_DEFAULT = (AddressReady(),)


@contextmanager
def an_empty_pool(connection):
    """A pool that `ensure_pool` makes, the same one each time; removed with its directory."""
    pools.ensure_pool(connection, PREFIX)
    made = pools.find_pool(connection, PREFIX)
    try:
        yield made
    finally:
        # A connection of its own: a test may have restarted libvirtd.
        with connections.connect(SYSTEM) as last:
            handle = last.handle.storagePoolLookupByName(made.name)
            handle.destroy()
            handle.undefine()
            for record in data_records.read(last):
                if record.pool == made.name:
                    data_records.remove(last, record.address)
        shutil.rmtree(made.path)


def declare(*, ready=_DEFAULT, **fields):
    """Declare a machine with a name of its own and a MAC address that no other one had."""
    number = next(NUMBERS)
    mac = f"52:54:00:{os.getpid() % 256:02x}:{number // 256:02x}:{number % 256:02x}"
    values = {
        "cpu": 1,
        "maximum_cpu": 1,
        "memory": 256 * MIB,
        "maximum_memory": 256 * MIB,
        "storage": 16 * MIB,
        "networking": (Networking(network="default", mac_address=mac),),
        "kernel_arguments": (),
        "autostart": False,
        "pool": "default",
        "firmware": "bios",
        "virtualization": "auto",
    } | fields
    return VirtualMachine(
        name=f"{PREFIX}-{number}",
        location=Location(file="config.scm", line=1, column=0),
        image=LocalImage(path="/image", format="raw", size=1, modified=1),
        domain=LibvirtDomain(**values),
        ready=ready,
        ready_timeout=120,
    )


@contextmanager
def defining(connection, pool, directory):
    """Yield what defines a machine on a disk that holds no more than a SECTOR; they go at the end.

    The disk is in POOL, and made in DIRECTORY before.
    """
    names = []

    def define(machine, *, change=lambda xml: xml, sector=b"", **fields):
        disk = directory / "disk"
        disk.write_bytes(sector)
        os.truncate(disk, 16 * MIB)
        volume = upload.upload_volume(
            connection, pool.name, f"pyguixvm-{machine.name}.g1.qcow2", disk, ignore
        )
        values = {
            "machine": machine,
            "root": volume.path,
            "backing": (),
            "domain_type": "qemu",
            "metadata": some_metadata(machine),
            "root_format": "raw",
        } | fields
        domains.define(connection, change(domain_xml(DomainDefinition(**values))))
        names.append(machine.name)
        return machine.name

    try:
        yield define
    finally:
        undefine(*names)


def undefine(*names):
    """Power domains of NAMES off and undefine them, those that there are."""
    # A connection of its own: a test may have restarted libvirtd.
    with connections.connect(SYSTEM) as last:
        for name in names:
            with suppress(libvirt.libvirtError):
                last.handle.lookupByName(name).destroy()
            with suppress(libvirt.libvirtError):
                last.handle.lookupByName(name).undefineFlags(
                    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
                )


# What a kernel does not have to do or find out before a test can begin: the services of a
# dozen ports, its own certificates, the parameters of what is no module.
AT_ONCE = (
    "nokaslr mitigations=off cryptomgr.notests=1 no_timer_check tsc=reliable lpj=4000000 "
    "nowatchdog raid=noautodetect init_on_alloc=0 page_alloc.shuffle=0 8250.nr_uarts=1 "
    "pcie_ports=compat rodata=off "
    "initcall_blacklist=load_system_certificate_list,param_sysfs_builtin_init"
)


def booting(tiny, does, devices=()):
    """Return what has a definition boot the guest in directory TINY, which DOES some things."""

    def change(xml):
        domain = parse(xml)
        domain.find("devices").extend(devices)
        os_element = domain.find("os")
        for tag, text in (
            ("kernel", str(tiny / "kernel")),
            ("initrd", str(tiny / "initrd")),
            ("cmdline", f"console=ttyS0 quiet panic=0 {AT_ONCE} does={does}"),
        ):
            os_element.append(element(tag, text))
        return render(domain)

    return change

# SPDX-License-Identifier: GPL-3.0-or-later
"""Where a campaign takes place: two machines, what they use, and what is somebody else's."""

import contextlib
import os
import shutil
from pathlib import Path

import libvirt
import msgspec
from boot_sector import heeding_button

from pyguixvm.hypervisor import data_records, pools
from pyguixvm.hypervisor.connection import connect
from pyguixvm.model.declaration import (
    ConsoleReady,
    DataDisk,
    LibvirtDomain,
    Location,
    Networking,
    VirtualMachine,
)
from pyguixvm.model.image import LocalImage
from pyguixvm.model.volume_names import data_volume, generation_volume

MIB = 1024**2
SYSTEM = "qemu:///system"
_SECTORS = 16 * MIB
_UNDEFINE = (
    libvirt.VIR_DOMAIN_UNDEFINE_NVRAM
    | libvirt.VIR_DOMAIN_UNDEFINE_MANAGED_SAVE
    | libvirt.VIR_DOMAIN_UNDEFINE_SNAPSHOTS_METADATA
    | libvirt.VIR_DOMAIN_UNDEFINE_CHECKPOINTS_METADATA
)


class Scene:
    """A pool, a network, two machines that are declared, and a domain that is not ours.

    All are called by PREFIX; DIRECTORY is for what is in none of libvirt's.
    """

    def __init__(self, prefix, directory, random):
        self.prefix = prefix
        self.directory = directory
        self.pool = prefix
        self.network = prefix
        self.names = (f"{prefix}-a", f"{prefix}-b")
        self.theirs = f"{prefix}-theirs"
        self._random = random
        self._number = 0
        self.declared = {}
        # Machines that others may have made forget what is theirs.
        self.let_go = set()
        # Of volumes that others may have made, and that are called as one of ours could be.
        self.likenesses = set()
        with connect(SYSTEM) as connection:
            pools.ensure_pool(connection, self.pool)
            self.path = Path(pools.find_pool(connection, self.pool).path)
        self.set_up()
        self._make_theirs()
        for name in self.names:
            self.declared[name] = self._first(name)

    def number(self):
        """Return a number that was not used before."""
        self._number += 1
        return self._number

    def set_up(self):
        """Have pool and network, as a person would have them back."""
        with connect(SYSTEM) as connection:
            pools.ensure_pool(connection, self.pool)
            pool = connection.handle.storagePoolLookupByName(self.pool)
            pool.refresh()
            third = os.getpid() % 250
            xml = (
                f"<network><name>{self.network}</name><bridge name='vc{os.getpid()}'/>"
                f"<ip address='10.77.{third}.1' netmask='255.255.255.0'/></network>"
            )
            try:
                network = connection.handle.networkLookupByName(self.network)
            except libvirt.libvirtError:
                network = connection.handle.networkDefineXML(xml)
            if not network.isActive():
                network.create()

    def words(self, name, connection):
        """Return what stands for what in a command of others about machine NAME."""
        current = 1
        with contextlib.suppress(Exception):
            from pyguixvm.hypervisor import domains

            current = domains.read_metadata(connection, name).current
        declared, number = self.declared[name], self.number()
        likeness = generation_volume(name, current + number)
        self.likenesses.add(likeness)
        (other,) = (each for each in self.names if each != name)
        return {
            "d": name,
            "other": other,
            "pool": self.pool,
            "net": self.network,
            "dir": str(self.path),
            "far": str(self.directory),
            "root": generation_volume(name, current),
            "data": data_volume(name, "db"),
            "mac": declared.domain.networking[0].mac_address,
            "n": number,
            "likeness": likeness,
        }

    def edit(self, name):
        """Have something else declared of machine NAME."""
        machine = self.declared[name]
        domain, r = machine.domain, self._random
        match r.choice(
            ["root", "root", "silent", "memory", "title", "description", "grow", "disk", "cpu",
             "network", "autostart", "nothing"]
        ):  # fmt: skip
            case "root":
                machine = self._with_image(machine, f"up {self.number()}")
            case "silent":
                machine = self._with_image(machine, f"no {self.number()}")
                machine = msgspec.structs.replace(machine, ready_timeout=2)
            case "memory":
                size = r.choice([32, 40, 48]) * MIB
                domain = _with(domain, memory=size, maximum_memory=size)
            case "title":
                domain = _with(domain, title=r.choice([None, "ours", f"title {self.number()}"]))
            case "description":
                domain = _with(domain, description=f"number {self.number()}")
            case "grow":
                disks = tuple(_with(each, size=each.size + MIB) for each in domain.disks)
                domain = _with(domain, disks=disks)
            case "disk":
                log = DataDisk(name="log", size=24 * MIB, file_system="ext4", target=None)
                disks = domain.disks[:1] if len(domain.disks) > 1 else (*domain.disks, log)
                domain = _with(domain, disks=disks)
            case "cpu":
                domain = _with(domain, cpu=r.choice([1, 2]), maximum_cpu=2)
            case "network":
                first = _with(domain.networking[0], network=r.choice(["default", self.network]))
                domain = _with(domain, networking=(first,))
            case "autostart":
                domain = _with(domain, autostart=not domain.autostart)
            case "nothing":
                pass
        self.declared[name] = msgspec.structs.replace(machine, domain=domain)

    def make_ready(self, name):
        """Have an image declared of machine NAME that gets ready, if that is not so."""
        machine = self.declared[name]
        if machine.ready_timeout == 2:
            self.declared[name] = self._with_image(machine, f"up {self.number()}")

    def _first(self, name):
        number = self.names.index(name)
        mac = f"52:54:00:{os.getpid() % 256:02x}:77:{number:02x}"
        domain = LibvirtDomain(
            cpu=1,
            maximum_cpu=1,
            memory=32 * MIB,
            maximum_memory=32 * MIB,
            storage=_SECTORS,
            networking=(Networking(network=self.network, mac_address=mac),),
            kernel_arguments=(),
            autostart=False,
            pool=self.pool,
            firmware="bios",
            virtualization="auto",
            disks=(DataDisk(name="db", size=16 * MIB, file_system="ext4", target=None),),
        )
        machine = VirtualMachine(
            name=name,
            location=Location(file="campaign.scm", line=1, column=0),
            image=LocalImage(path="/none", format="raw", size=1, modified=1),
            domain=domain,
            ready=(ConsoleReady("up"),),
            ready_timeout=30,
        )
        return self._with_image(machine, "up")

    def _with_image(self, machine, text):
        image = self.directory / f"image-{self.number()}.raw"
        image.write_bytes(heeding_button(f"{text}\r\n"))
        os.truncate(image, _SECTORS)
        modified = int(image.stat().st_mtime)
        local = LocalImage(path=str(image), format="raw", size=_SECTORS, modified=modified)
        return msgspec.structs.replace(machine, image=local, ready_timeout=30)

    def _make_theirs(self):
        """Make a domain that runs, and volumes, in the same pool, and on the same network."""
        disk = self.path / "theirs.img"
        disk.write_bytes(heeding_button("theirs"))
        os.truncate(disk, MIB)
        (self.path / "theirs-too.qcow2").write_bytes(b"something")
        with connect(SYSTEM) as connection:
            connection.handle.storagePoolLookupByName(self.pool).refresh()
            connection.handle.defineXML(
                f"<domain type='qemu'><name>{self.theirs}</name><memory unit='MiB'>32</memory>"
                "<os><type arch='x86_64' machine='q35'>hvm</type></os>"
                f"<devices><disk type='file'><driver name='qemu' type='raw'/>"
                f"<source file='{disk}'/><target dev='vda'/></disk>"
                "<interface type='network'><source network='default'/></interface>"
                "</devices></domain>"
            ).create()

    def clear(self, names=None):
        """Take away the machines NAMES and all that belongs to them."""
        names = self.names if names is None else names
        with connect(SYSTEM) as connection:
            for domain in connection.handle.listAllDomains():
                if any(domain.name().startswith(name) for name in names):
                    with contextlib.suppress(libvirt.libvirtError):
                        domain.destroy()
                    with contextlib.suppress(libvirt.libvirtError):
                        domain.undefineFlags(_UNDEFINE)
            for file in self.path.iterdir():
                if any(file.name.startswith(f"pyguixvm-{name}.") for name in names):
                    file.unlink()
            self.set_up()
            for record in data_records.read(connection):
                if record.pool == self.pool and record.machine in names:
                    data_records.remove(connection, record.address)

    def close(self):
        """Take all of it away."""
        self.clear((*self.names, self.theirs))
        with connect(SYSTEM) as connection:
            pool = connection.handle.storagePoolLookupByName(self.pool)
            pool.destroy()
            pool.undefine()
            network = connection.handle.networkLookupByName(self.network)
            network.destroy()
            # One that others undefined while it was active is gone by now.
            with contextlib.suppress(libvirt.libvirtError):
                network.undefine()
        shutil.rmtree(self.path)


def _with(structure, **fields):
    return msgspec.structs.replace(structure, **fields)

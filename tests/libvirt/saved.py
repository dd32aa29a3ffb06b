# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines that are booted once and saved: a test goes on from there, without a boot."""

import json
import subprocess
from contextlib import contextmanager, suppress
from pathlib import Path

import libvirt
import libvirt_qemu
import msgspec
from machines import undefine
from waiting import eventually

from pyguixvm.hypervisor.refresh import refresh
from pyguixvm.model.declaration import VirtualMachine


class SavedMachine(msgspec.Struct, frozen=True):
    """A machine, how it is defined, and where its memory and what was in its pool are."""

    machine: VirtualMachine
    definition: str
    directory: Path

    @property
    def memory(self):
        return str(self.directory / "memory")

    @property
    def volumes(self):
        return self.directory / "volumes"


def save(connection, machine, pool, directory):
    """Save MACHINE, which runs on what is in POOL, to DIRECTORY."""
    handle = connection.handle.lookupByName(machine.name)
    saved = SavedMachine(machine, handle.XMLDesc(libvirt.VIR_DOMAIN_XML_INACTIVE), directory)
    handle.save(saved.memory)
    _copy(pool.path, saved.volumes)
    return saved


@contextmanager
def restored(connection, saved, pool):
    """Have the machine that was SAVED run again, in a POOL as empty as its own was."""
    _copy(saved.volumes, pool.path)
    refresh(connection.handle.storagePoolLookupByName(pool.name))
    connection.handle.defineXML(saved.definition)
    try:
        connection.handle.restore(saved.memory)
        yield saved.machine
    finally:
        undefine(saved.machine.name)


def wait_agent(connection, name):
    """Return as soon as libvirt reaches the agent in the guest of NAME.

    That takes a moment after a restoration, too: QEMU has to say that the guest has its port open.
    """
    request = json.dumps({"execute": "guest-sync", "arguments": {"id": 1}})

    def answers():
        with suppress(libvirt.libvirtError):
            return libvirt_qemu.qemuAgentCommand(
                connection.handle.lookupByName(name), request, 5, 0
            )
        return None

    eventually(answers)


def _copy(old, new):
    """Copy what is in directory OLD to directory NEW, with its owners."""
    subprocess.run(["cp", "--archive", "--no-target-directory", old, new], check=True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Changes to a guest that runs."""

from __future__ import annotations

from typing import assert_never

from pyguixvm.apply.context import Workshop
from pyguixvm.events import phase
from pyguixvm.hypervisor import hotplug
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.actions import (
    AttachDisk,
    AttachInterface,
    DetachDisk,
    DetachInterface,
    LiveAction,
    SetMemory,
    SetVcpus,
    UpdateInterface,
)


def change(name: str, action: LiveAction, workshop: Workshop) -> None:
    """Do ACTION to the running guest of machine NAME.

    A guest that does not follow is told of, and seen again by the next plan.
    """
    connection, sleep = workshop.connection, workshop.sleep
    until = f"within {hotplug.PATIENCE:g} s"
    with phase(workshop.emit, "update", name, until) as result:
        workshop.require(name)
        match action:
            case SetMemory(memory=memory):
                result.detail = f"memory {format_size(memory)}"
                if not hotplug.set_memory(connection, name, memory, sleep):
                    workshop.warn(name, "the guest holds on to its memory (has it a balloon?)")
            case SetVcpus(cpu=cpu):
                result.detail = f"{cpu} vCPUs"
                if not hotplug.set_vcpus(connection, name, cpu, sleep):
                    workshop.warn(
                        name,
                        "the guest does not use its new vCPUs yet (has it an agent?)",
                    )
            case AttachInterface(mac_address=mac):
                result.detail = f"attach {mac}"
                hotplug.attach_interface(connection, name, mac)
            case UpdateInterface(mac_address=mac):
                result.detail = f"connect {mac}"
                hotplug.update_interface(connection, name, mac)
            case DetachInterface(mac_address=mac):
                result.detail = f"detach {mac}"
                hotplug.detach_interface(connection, name, mac, sleep)
            case AttachDisk(source=source):
                result.detail = f"attach {source}"
                hotplug.attach_disk(connection, name, source)
            case DetachDisk(source=source):
                result.detail = f"detach {source}"
                hotplug.detach_disk(connection, name, source, sleep)
            case _:
                assert_never(action)

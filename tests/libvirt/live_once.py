# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the system of one machine by its agent, and have something happen after an event.

usage: live_once.py MACHINE EVENT DIRECTORY COMMAND…

EVENT and COMMAND are as for update_once.py.  What a system is, in a tiny guest, is a script:
it says in a file of the guest which one it is.
"""

import os
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path

import msgspec
from once import carried_out, change_once

from pyguixvm.guix.activation import LiveSystem
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.store_item import StoreItem
from pyguixvm.plan.plan import Policy

# What a guest of Guix's has, and a tiny one lacks: busybox is all that there is.
FURNISH = """
mkdir -p /gnu/store /run/current-system/profile/bin
ln -sf /bin/* /run/current-system/profile/bin
printf '#!/bin/sh\\n' > /run/current-system/profile/bin/flock
chmod +x /run/current-system/profile/bin/flock
"""


def stored(directory, name, text, size=0):
    """Return a store item NAME in DIRECTORY: a program that is TEXT, of SIZE bytes at least."""
    file = directory / f"{name:x<32.32}-switch"
    file.write_text(f"#!/bin/sh\n{text}\nexit\n")
    file.chmod(0o555)
    if size:
        with file.open("ab") as stream:
            stream.write(os.urandom(size))
    return StoreItem(str(file), f"sha256:{name}", file.stat().st_size, ())


class Living:
    """What stands for Guix's build: programs that it would build for a guest, in DIRECTORY."""

    def __init__(self, directory, switch="", *, size=0, items=None):
        self.directory = directory
        self.switch = switch
        self.size = size
        self.items = items
        self.asked = []

    def prepare_live(self, target):
        self.asked.append(target)
        name = Path(target.system).stem
        switch = self.switch or f"printf {name} > /run/system; echo done"
        item = stored(self.directory, name, switch, self.size)
        there = f"/gnu/store/{Path(item.path).name}"
        items = (item,) if self.items is None else self.items
        return LiveSystem(there, target.system, (there,), items)


def change_live(connection, machine, emit, activation, store=None, kept=None, **policy):
    """Carry out the plan for MACHINE, by a workshop with what is KEPT; return its outcome."""
    since = (datetime.now(UTC) - timedelta(minutes=15)).isoformat(timespec="seconds")
    allowed = Policy(**{"strategy": "live", "since": since} | policy)
    return carried_out(connection, machine, emit, activation, allowed, store, **(kept or {}))


def main():
    machine = msgspec.json.decode(sys.argv[1], type=VirtualMachine)
    last, directory, command = sys.argv[2], Path(sys.argv[3]), sys.argv[4:]
    living = Living(directory, size=int(os.environ.get("LIVE_SIZE", "0")))

    def change(connection, machine, emit):
        return change_live(connection, machine, emit, living)

    change_once(machine, change, last, command)

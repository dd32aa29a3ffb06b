# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the system of one machine in place, and have something happen after an event.

usage: in_place_once.py MACHINE EVENT COMMAND…

The guest is said to have switched at once: there is no Guix in it.  EVENT and COMMAND
are as for update_once.py.
"""

import sys

import msgspec
from once import carried_out, change_once

from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.plan import Policy


class Switching:
    """What stands for Guix's deployment: the guest runs the other system."""

    def __init__(self, switch=lambda _host: None, prepare=lambda _host: None):
        self.switch = switch
        self.prepare = prepare

    def activate(self, host):
        return self.switch(host)


def change_in_place(connection, machine, emit, activation, **policy):
    """Carry out the plan for MACHINE; return its outcome."""
    policy = Policy(strategy="in-place", **policy)
    return carried_out(connection, machine, emit, activation, policy)


def main():
    machine = msgspec.json.decode(sys.argv[1], type=VirtualMachine)
    last, command = sys.argv[2], sys.argv[3:]

    def change(connection, machine, emit):
        return change_in_place(connection, machine, emit, Switching())

    change_once(machine, change, last, command)

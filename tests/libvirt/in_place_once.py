# SPDX-License-Identifier: GPL-3.0-or-later
"""Change the system of one machine in place, and have something happen after an event.

usage: in_place_once.py MACHINE EVENT COMMAND…

The guest is said to have switched at once: there is no Guix in it.  EVENT and COMMAND
are as for update_once.py.
"""

import itertools
import os
import subprocess
import sys
from pathlib import Path

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.events import PhaseFinished, PhaseStarted
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.plan import Policy
from pyguixvm.plan.planner import plan


class Switching:
    """What stands for Guix's deployment: the guest runs the other system."""

    def __init__(self, switch=lambda _host: False, prepare=lambda _host: None):
        self.switch = switch
        self.prepare = prepare

    def activate(self, host):
        return self.switch(host)


def change_in_place(connection, machine, emit, activation, **policy):
    """Carry out the plan for MACHINE; return its outcome."""
    made = plan([machine], observe(connection), policy=Policy(strategy="in-place", **policy))
    store = Store(lambda: sys.exit("there is no guix here"), Path("/dev/null/state"), emit)
    environment = {"PYGUIXVM_VIRT_TYPE": "qemu"}
    workshop = Workshop(connection, emit, environment, store, activation)
    (outcome,) = apply(made, workshop)
    return outcome


def main():
    machine = msgspec.json.decode(sys.argv[1], type=VirtualMachine)
    events = itertools.count(1)
    last, command = sys.argv[2], sys.argv[3:]

    def emit(event):
        if isinstance(event, PhaseStarted | PhaseFinished) and str(next(events)) == last:
            subprocess.run(
                command, check=True, env={**os.environ, "UPDATE_PROCESS": str(os.getpid())}
            )

    with (
        connect("qemu:///system") as connection,
        held(connection, [machine.name], emit, "deploy"),
    ):
        outcome = change_in_place(connection, machine, emit, Switching())
    if outcome.error:
        sys.exit(f"{outcome.error.message} ({outcome.error.hint})")


if __name__ == "__main__":
    main()

# SPDX-License-Identifier: GPL-3.0-or-later
"""One change by a process of its own, in which something happens after one of its events."""

import itertools
import os
import subprocess
import sys

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.events import PhaseFinished, PhaseStarted
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.plan.planner import plan


def carried_out(connection, machine, emit, activation, policy, store=None, **kept):
    """Carry out the plan for MACHINE by POLICY; return its outcome.

    KEPT is what else is in its workshop.
    """
    made = plan([machine], observe(connection), policy=policy)
    store = store or Store(lambda: sys.exit("there is no guix here"), emit)
    environment = {"PYGUIXVM_VIRT_TYPE": "qemu"}
    workshop = Workshop(connection, emit, environment, store, activation, **kept)
    (outcome,) = apply(made, workshop)
    return outcome


def change_once(machine, change, last, command):
    """Have CHANGE of a connection and a listener change MACHINE; exit with its error, if any.

    A line is written when the work begins.  After the event of number LAST, COMMAND is run,
    which may kill this process: its number is in UPDATE_PROCESS.
    """
    events = itertools.count(1)
    print("begun", flush=True)

    def emit(event):
        if isinstance(event, PhaseStarted | PhaseFinished) and str(next(events)) == last:
            subprocess.run(
                command, check=True, env={**os.environ, "UPDATE_PROCESS": str(os.getpid())}
            )

    with (
        connect("qemu:///system") as connection,
        held(connection, [machine.name], emit, "deploy"),
    ):
        outcome = change(connection, machine, emit)
    if outcome.error:
        sys.exit(f"{outcome.error.message} ({outcome.error.hint})")

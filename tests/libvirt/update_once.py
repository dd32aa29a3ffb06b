# SPDX-License-Identifier: GPL-3.0-or-later
"""Update one machine, and have something happen after one of its events.

usage: update_once.py MACHINE EVENT COMMAND…

EVENT is a number, or a name such as "PhaseFinished stop".  COMMAND is run then; it
may kill this process, whose number is in UPDATE_PROCESS.  The work goes on when the
signals that COMMAND sends have been taken: the main thread takes them in its own time,
and another one works meanwhile.
"""

import itertools
import os
import subprocess
import sys
import time

import msgspec

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.cli.safepoints import heeded
from pyguixvm.errors import BuildError
from pyguixvm.events import Notice, PhaseFinished, PhaseStarted
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.machine_lock.lock import held
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.planner import plan

events = itertools.count(1)


def emit(event, interruption):
    last, command = sys.argv[2], sys.argv[3:]
    signals_sent = sum(each.count("kill -") for each in command)
    if isinstance(event, PhaseStarted | PhaseFinished):
        name = f"{type(event).__name__} {event.phase}"
        if last in {name, str(next(events))}:
            subprocess.run(
                command, check=True, env={**os.environ, "UPDATE_PROCESS": str(os.getpid())}
            )
            while interruption.asked < signals_sent:
                time.sleep(0.01)


def no_guix():
    raise BuildError("there is no guix here")


def show(event):
    if isinstance(event, Notice):
        print(event.message, file=sys.stderr, flush=True)


def update():
    machine = msgspec.json.decode(sys.argv[1], type=VirtualMachine)
    with heeded(show) as interruption, connect("qemu:///system") as connection:

        def tell(event):
            show(event)
            emit(event, interruption)

        with held(connection, [machine.name], tell, "deploy") as lock:
            made = plan([machine], observe(connection, Depth.RECORDS))
            # These machines have images of their own: Guix is not asked for anything.
            store = Store(no_guix, tell)
            environment = {"PYGUIXVM_VIRT_TYPE": "qemu"}
            workshop = Workshop(
                connection,
                tell,
                environment,
                store,
                interruption=interruption,
                require=lock.require,
            )
            (outcome,) = apply(made, workshop)
    return outcome


def main():
    try:
        outcome = update()
    except KeyboardInterrupt:
        sys.exit(130)
    if outcome.error:
        sys.exit(f"{outcome.error.message} ({outcome.error.hint})")

# SPDX-License-Identifier: GPL-3.0-or-later
"""Update one machine, and die by SIGKILL after some events: update_once.py MACHINE EVENTS."""

import itertools
import os
import signal
import sys

import msgspec

from pyguixvm.events import PhaseFinished, PhaseStarted
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.lock import held
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.deployment import VirtualMachine
from pyguixvm.reconcile.apply import apply
from pyguixvm.reconcile.planner import plan
from pyguixvm.reconcile.workshop import Workshop

machine = msgspec.json.decode(sys.argv[1], type=VirtualMachine)
events = itertools.count(1)
last = int(sys.argv[2])


def emit(event):
    if isinstance(event, PhaseStarted | PhaseFinished):
        print(type(event).__name__, event.phase, flush=True)
        if next(events) == last:
            os.kill(os.getpid(), signal.SIGKILL)


with (
    connect("qemu:///system") as connection,
    held(connection, machine.domain.pool, machine.name, emit),
):
    made = plan([machine], observe(connection))
    (outcome,) = apply(made, Workshop(connection, emit, {"PYGUIXVM_VIRT_TYPE": "qemu"}))
if outcome.error:
    sys.exit(f"{outcome.error.message} ({outcome.error.hint})")

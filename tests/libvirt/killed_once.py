# SPDX-License-Identifier: GPL-3.0-or-later
"""Do one thing to a machine, and die by SIGKILL where one of its phases begins.

usage: killed_once.py VERB MACHINE EVENT STATE

VERB is "deploy", "trial" (a deployment with one), "gc", "undefine", or the number of a
generation to roll back to; EVENT is the number of that phase, 0 for none; STATE is the
directory for GC roots.  A line is written when the work begins.
"""

import itertools
import os
import signal
import sys
from datetime import timedelta
from pathlib import Path

import msgspec

from pyguixvm.commands import deploy, garbage, rollback, undefine
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.events import PhaseStarted
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.plan import Policy

events = itertools.count(1)
# The guests hear of nothing.
policy = Policy(force=True, stop_timeout=0)


def killed_at(last):
    def emit(event):
        if isinstance(event, PhaseStarted) and next(events) == last:
            os.kill(os.getpid(), signal.SIGKILL)

    return emit


def collect(here, machine):
    found = garbage.unneeded(here, keep=0, older_than=timedelta(0))
    mine = tuple(each for each in found.generations if each[0] == machine.name)
    copies = tuple(each for each in found.copies if each == f"{machine.name}-test")
    volumes = tuple(each for each in found.volumes if each.pool == machine.domain.pool)
    agreed = msgspec.structs.replace(found, generations=mine, volumes=volumes, copies=copies)
    garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)


def main():
    verb, machine, last, state = sys.argv[1:]
    machine = msgspec.json.decode(machine, type=VirtualMachine)
    environment = {"XDG_STATE_HOME": state, "PYGUIXVM_VIRT_TYPE": "qemu"}
    here = Session("qemu:///system", (), environment, killed_at(int(last)), print)
    print("begun", flush=True)
    match verb:
        case "deploy" | "trial":
            with observed(here, [machine], policy=policy) as planned:
                config = Path("/src/config.scm")
                trial = "direct" if verb == "trial" else None
                (outcome,) = deploy.deploy(here, config, planned, trial=trial)
        case "gc":
            collect(here, machine)
            return
        case "undefine":
            agreed = undefine.removals(here, [machine.name], keep_volumes=False)
            undefine.undefine(here, agreed)
            return
        case _:
            outcome = rollback.roll_back(here, machine.name, int(verb), policy)
    if outcome.error:
        sys.exit(f"{outcome.error.message} ({outcome.error.hint})")

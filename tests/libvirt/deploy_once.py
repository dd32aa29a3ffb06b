# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy machines side by side, and have something happen after an event, once.

usage: deploy_once.py MACHINES EVENT COMMAND…

EVENT is a name such as "PhaseFinished define", or "Notice waiting".  COMMAND is run then;
it may signal this process, whose number is in DEPLOY_PROCESS.
"""

import dataclasses
import os
import subprocess
import sys
import threading
from pathlib import Path

import msgspec

from pyguixvm.cli.safepoints import heeded
from pyguixvm.commands.deploy import deploy
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.events import Notice, in_turn
from pyguixvm.model.declaration import VirtualMachine

happened = threading.Event()


def emit(event):
    wanted, command = sys.argv[2], sys.argv[3:]
    if isinstance(event, Notice):
        print(event.message, file=sys.stderr, flush=True)
    name = f"{type(event).__name__} {getattr(event, 'phase', getattr(event, 'message', ''))}"
    whose = getattr(event, "machine", None)
    if name.startswith(wanted) and whose is not None and not happened.is_set():
        happened.set()
        environment = {**os.environ, "DEPLOY_PROCESS": str(os.getpid())}
        subprocess.run(command, check=True, env=environment)


def run():
    machines = msgspec.json.decode(sys.argv[1], type=list[VirtualMachine])
    environment = {"PYGUIXVM_VIRT_TYPE": "qemu"}
    here = Session("qemu:///system", (), environment, in_turn(threading.RLock(), emit), print)
    with heeded(here.emit) as interruption:
        here = dataclasses.replace(here, interruption=interruption)
        with observed(here, machines) as planned:
            return deploy(here, Path("/src/config.scm"), planned)


def main():
    try:
        outcomes = run()
    except KeyboardInterrupt:
        sys.exit(130)
    sys.exit(max(outcome.status for outcome in outcomes))

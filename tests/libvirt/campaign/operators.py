# SPDX-License-Identifier: GPL-3.0-or-later
"""An operator: somebody who gives our commands, each in a process of its own."""

import dataclasses
import multiprocessing
import os
import threading
import traceback
from datetime import timedelta
from pathlib import Path

import msgspec

from pyguixvm.cli.safepoints import heeded
from pyguixvm.commands import deploy, garbage, power, rollback, undefine
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.errors import DefectError, PyguixvmError
from pyguixvm.events import Notice, in_turn
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.plan.plan import Policy

CONFIG = Path("/src/campaign.scm")
DEPLOYMENT = "campaign"
# Longer than anything that is waited for takes, on a host that has much else to do (seconds).
PATIENCE = 150

# A process that has all of this loaded already is quickly copied.
_SERVER = multiprocessing.get_context("forkserver")
_SERVER.set_forkserver_preload(["campaign.operators"])


class Order(msgspec.Struct, frozen=True):
    """That VERB is to be done to MACHINES on the hypervisor at URI; see `_done`."""

    verb: str
    machines: tuple[VirtualMachine, ...]
    uri: str
    number: int = 0
    force: bool = True
    delete_data: bool = False
    pool: str = ""

    def __str__(self):
        names = ",".join(each.name.rpartition("-")[2] for each in self.machines)
        where = "" if self.uri == "qemu:///system" else ", by a line"
        return f"{self.verb} {names}{where}"


class Answer(msgspec.Struct, frozen=True):
    """What became of an order: errors by their messages and hints; DEFECTS are ours."""

    errors: tuple[tuple[str, str], ...] = ()
    defects: tuple[str, ...] = ()


class Operator:
    """One who has DIRECTORY for what outlives a command."""

    def __init__(self, directory):
        directory.mkdir()
        self._directory = directory
        self._count = 0

    def begin(self, order):
        """Return ORDER, which is being carried out."""
        self._count += 1
        return Work(order, self._directory, self._directory / f"{self._count}.json")


class Work:
    """A command that goes on: a process, and what it said when it has ended."""

    def __init__(self, order, directory, answer):
        self.order = order
        self._answer = answer
        self.process = _SERVER.Process(
            target=_operate, args=(msgspec.json.encode(order), str(directory), str(answer))
        )
        self.process.start()

    def send(self, number):
        """Send signal NUMBER, unless it ended already."""
        if self.process.exitcode is None:
            os.kill(self.process.pid, number)

    def end(self):
        """Return its answer, None if it was killed; raise AssertionError if it hangs."""
        self.process.join(PATIENCE)
        if self.process.exitcode is None:
            self.process.kill()
            self.process.join()
            raise AssertionError(f"{self.order} did not end within {PATIENCE} s")
        if not self._answer.exists():
            assert self.process.exitcode < 0, f"{self.order} ended by {self.process.exitcode}"
            return None
        return msgspec.json.decode(self._answer.read_bytes(), type=Answer)


def _operate(order, directory, answer):
    order = msgspec.json.decode(order, type=Order)
    with Path(directory, "log").open("a") as log:
        os.dup2(log.fileno(), 1)
        os.dup2(log.fileno(), 2)
    said = carried_out(order, Path(directory))
    unfinished = Path(answer).with_suffix(".partial")
    unfinished.write_bytes(msgspec.json.encode(said))
    unfinished.rename(answer)


def carried_out(order, directory):
    """Carry ORDER out in this process; return its answer."""
    try:
        errors = [error for error in _done(order, directory) if error is not None]
    except PyguixvmError as error:
        errors = [error]
    except KeyboardInterrupt:
        return Answer(errors=(("interrupted", "by hand"),))
    except Exception:  # noqa: BLE001 -- whatever it is, it is what is looked for
        return Answer(defects=(traceback.format_exc(),))
    return Answer(
        errors=tuple((error.message, error.hint or "") for error in errors),
        defects=tuple(str(error.message) for error in errors if isinstance(error, DefectError)),
    )


def _done(order, directory):
    """Do what ORDER says; yield what was an error."""
    environment = {"XDG_STATE_HOME": str(directory), "PYGUIXVM_VIRT_TYPE": "qemu"}
    here = Session(order.uri, (), environment, in_turn(threading.RLock(), _told), print)
    policy = Policy(force=order.force, stop_timeout=2)
    names = [each.name for each in order.machines]
    with heeded(here.emit) as interruption:
        here = dataclasses.replace(here, interruption=interruption)
        match order.verb:
            case "deploy":
                with observed(
                    here,
                    order.machines,
                    policy=policy,
                    config=str(CONFIG),
                    deployment=DEPLOYMENT,
                ) as planned:
                    for outcome in deploy.deploy(here, CONFIG, planned):
                        yield outcome.error
            case "rollback":
                yield rollback.roll_back(here, names[0], order.number or None, policy).error
            case "gc":
                _collect(here, order.pool)
            case "undefine":
                agreed = undefine.removals(
                    here, names, keep_volumes=False, delete_data=order.delete_data
                )
                undefine.undefine(here, agreed)
            case "start":
                power.start(here, names)
            case "shutdown":
                power.shutdown(here, names, 2)
            case "destroy":
                power.destroy(here, names, unprotect=False)


def _collect(here, pool):
    """Collect the garbage of POOL, all of it."""
    found = garbage.unneeded(here, keep=0, older_than=timedelta(0))
    theirs = tuple(each for each in found.volumes if each.pool == pool)
    agreed = msgspec.structs.replace(found, volumes=theirs)
    garbage.collect(here, keep=0, older_than=timedelta(0), agreed=agreed)


def _told(event):
    if isinstance(event, Notice):
        print(event.message, flush=True)

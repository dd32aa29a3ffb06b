# SPDX-License-Identifier: GPL-3.0-or-later
"""A campaign: rounds of what operators and others do, each followed by what has to be so."""

import random
import signal
import time

from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor.connection import connect

from .invariants import orphans, violations
from .line import Line
from .look import look, write_mark
from .operators import CONFIG, DEPLOYMENT, Operator, Order, carried_out
from .others import ACTS, RESTART, do
from .scene import SYSTEM, Scene

# What only the guest, or the kernel when QEMU opens a file, can say.
_UNFORESEEABLE = ("does not let go of disk", "Permission denied")


class Campaign:
    """COUNT acts in a scene, all of which follow from SEED; `findings` is what was wrong."""

    def __init__(self, prefix, directory, seed, count, tell=print):
        self.seed = seed
        self.acts = 0
        self.findings = []
        self.history = []
        self.refusals = {}
        self._count = count
        self._tell = tell
        self._random = random.Random(seed)
        self._scene = Scene(prefix, directory, self._random)
        self._line = Line(directory / "line")
        self._operators = [Operator(directory / name) for name in ("one", "two")]
        self._calm = directory / "calm"
        self._calm.mkdir()

    def run(self):
        """Have it take place; return what was wrong."""
        try:
            self._settle()
            while self.acts < self._count:
                self._round()
        finally:
            self._line.close()
            self._scene.close()
        return self.findings

    def _round(self):
        """Others do something, then operators and others at once, then one deploys in peace."""
        r = self._random
        with connect(SYSTEM) as connection:
            self._write(connection)
            for _ in range(r.choice([0, 0, 1, 1, 2])):
                self._others(connection, ACTS)
            before = look(self._scene, connection)
            orders = self._orders()
            self._carry_out(orders, connection)
        with connect(SYSTEM) as connection:
            deleted = {
                machine.name
                for order in orders
                if order.verb == "undefine" and order.delete_data
                for machine in order.machines
            }
            self._require(before, deleted, connection)
        self._settle()

    def _note(self, text):
        self.acts += 1
        self.history.append(text)

    def _found(self, text):
        last = "; ".join(self.history[-8:])
        finding = f"SEED={self.seed} N={self._count}, act {self.acts}: {text} [{last}]"
        self.findings.append(finding)
        self._tell(finding)

    def _others(self, connection, acts):
        act = self._random.choice(acts)
        name = self._random.choice(self._scene.names)
        self._note(f"others: {act.name} of {name[-1]}")
        do(act, self._scene.words(name, connection))
        if any(word in act.name for word in ("undefine", "metadata", "rename")):
            self._scene.let_go.update(self._scene.names)

    def _write(self, connection):
        """Have the guests write something to their data disks."""
        seen = look(self._scene, connection)
        for name in self._scene.names:
            for disk in seen.domains[name].disks if name in seen.domains else ():
                if disk.serial and disk.serial.startswith("data-"):
                    write_mark(connection, name, disk, self._random.randrange(1, 256))

    def _orders(self):
        """Return what one or two operators are going to do."""
        r, scene = self._random, self._scene
        orders = []
        for _ in range(r.choice([1, 1, 2])):
            names = r.choice([scene.names, scene.names[:1], scene.names[1:]])
            verb = r.choice(["deploy"] * 8 + ["rollback", "gc", "undefine", "start", "destroy"])
            if verb == "deploy" and r.random() < 0.8:
                for name in names:
                    scene.edit(name)
            if verb in {"rollback", "undefine"}:
                names = names[:1]
            orders.append(
                Order(
                    verb=verb,
                    machines=tuple(scene.declared[name] for name in names),
                    uri=r.choice([SYSTEM, SYSTEM, self._line.uri]),
                    force=r.random() < 0.7,
                    delete_data=r.random() < 0.5,
                    pool=scene.pool,
                )
            )
        return orders

    def _carry_out(self, orders, connection):
        """Have operators carry ORDERS out side by side, and be disturbed."""
        work = []
        for operator, order in zip(self._operators, orders, strict=False):
            self._note(str(order))
            work.append(operator.begin(order))
        self._disturb(work, connection)
        for each in work:
            try:
                answer = each.end()
            except AssertionError as error:
                self._found(str(error))
                continue
            for defect in answer.defects if answer else ():
                self._found(f"{each.order}: {defect}")

    def _disturb(self, work, connection):
        r = self._random
        time.sleep(r.random() ** 2 * 2)
        victim = r.choice(work)
        match r.choice(["nothing", "kill", "kill", "stop", "cut", "cut", "term", "others", "others",
                        "restart"]):  # fmt: skip
            case "kill":
                self._note("SIGKILL")
                victim.send(signal.SIGKILL)
            case "term":
                self._note("SIGTERM")
                victim.send(signal.SIGTERM)
            case "stop":
                self._note("SIGSTOP, SIGCONT")
                victim.send(signal.SIGSTOP)
                time.sleep(r.random())
                victim.send(signal.SIGCONT)
            case "cut":
                self._note("cut")
                self._line.cut()
            case "others":
                self._others(connection, [act for act in ACTS if act.gentle])
            case "restart":
                self._note("libvirtd restarts")
                do(RESTART, {})

    def _require(self, before, deleted, connection):
        after = look(self._scene, connection)
        for violation in violations(self._scene, before, after, deleted, connection):
            self._found(violation)

    def _settle(self):
        """One more deployment converges, or refuses with a reason; then a person mends that."""
        scene = self._scene
        for name in scene.names:
            scene.make_ready(name)
        for last in (False, True):
            refused = self._deploy_in_peace()
            if not refused:
                break
            if last:
                self._found(f"not even a new machine can be deployed: {refused}")
            self._note("a person begins anew")
            scene.clear(list(refused))
        with connect(SYSTEM) as connection:
            for orphan in orphans(scene, connection, self._calm):
                self._found(f"{orphan} is nobody's, and gc does not know it")

    def _deploy_in_peace(self):
        """Deploy what is declared; return the machines that are not so now, with the reasons."""
        scene = self._scene
        refused = {}
        self._note("deploy in peace")
        with connect(SYSTEM) as connection:
            before = look(scene, connection)
            for name in scene.names:
                machine = scene.declared[name]
                foreseen, _ = self._planned(machine)
                answer = carried_out(
                    Order(verb="deploy", machines=(machine,), uri=SYSTEM), self._calm
                )
                for defect in answer.defects:
                    self._found(f"a calm deployment: {defect}")
                for message, hint in answer.errors:
                    refused[name] = message
                    self.refusals[_kind(message, scene)] = (
                        self.refusals.get(_kind(message, scene), 0) + 1
                    )
                    if foreseen is None and not any(each in message for each in _UNFORESEEABLE):
                        self._found(f"not foreseen: {message} ({hint})")
                    if not hint:
                        self._found(f"no hint: {message}")
                if not answer.errors and not answer.defects:
                    reason, actions = self._planned(machine)
                    if reason or actions:
                        self._found(f"{name} does not converge: {reason or actions}")
            after = look(scene, connection)
            for name, was in before.domains.items():
                is_now = after.domains.get(name)
                if was.running and name in refused and not (is_now and is_now.running):
                    self._found(f"{name} ran, and does not any more: {refused[name]}")
            for violation in violations(scene, before, after, (), connection):
                self._found(f"in peace: {violation}")
        return refused

    def _planned(self, machine):
        """Return why MACHINE would be refused, if it would, and what would be done."""
        environment = {"XDG_STATE_HOME": str(self._calm), "PYGUIXVM_VIRT_TYPE": "qemu"}
        here = Session(SYSTEM, (), environment, ignore, ignore)
        with observed(here, [machine], config=str(CONFIG), deployment=DEPLOYMENT) as (sight,):
            (plan,) = sight.plan.machines
        return plan.refusal, plan.actions


def _kind(message, scene):
    return "".join(c for c in message.replace(scene.prefix, "X") if not c.isdigit())[:90]

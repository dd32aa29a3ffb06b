# SPDX-License-Identifier: GPL-3.0-or-later
"""Whose turn it is: what is required comes first, and failures stop what stands on them."""

from __future__ import annotations

import threading
from functools import partial

import pytest

from pyguixvm.apply import executor
from pyguixvm.apply.outcome import Outcome
from pyguixvm.events import ignore
from pyguixvm.interruption import Interruption
from pyguixvm.plan.order import Order, Turn, next_turns

DB, WEB, MAIL = Turn("db"), Turn("web", ("db",)), Turn("mail", ("web",))


@pytest.mark.parametrize(
    ("turns", "begun", "ended", "order", "now", "left"),
    [
        ((WEB, DB), "", {}, Order(), ("db",), {}),
        ((WEB, DB), "db", {}, Order(), (), {}),
        ((WEB, DB), "db", {"db": True}, Order(), ("web",), {}),
        # What is required and not asked for is taken for granted.
        ((WEB,), "", {}, Order(), ("web",), {}),
        # A machine with nothing to do waits for nobody, and nobody for it.
        ((WEB, Turn("db", changes=False)), "", {}, Order(), ("db", "web"), {}),
        ((Turn("web", ("db",), changes=False), DB), "", {}, Order(), ("web", "db"), {}),
        (
            (MAIL, WEB, DB),
            "db",
            {"db": False},
            Order(),
            (),
            {
                "web": "'db', which it requires, failed",
                "mail": "'web', which it requires, was left as it is",
            },
        ),
        ((DB, Turn("x")), "db", {"db": False}, Order(), ("x",), {}),
        ((DB, Turn("x"), Turn("y")), "", {}, Order(at_once=2), ("db", "x"), {}),
        # Not before all of these are ready.
        ((DB, Turn("x"), Turn("y")), "db x", {"x": True}, Order(at_once=2), (), {}),
        ((DB, Turn("x"), Turn("y")), "db x", {"x": True, "db": True}, Order(at_once=2), ("y",), {}),
        ((WEB, Turn("x"), DB), "", {}, Order(at_once=3), ("x", "db"), {}),
        ((DB, Turn("x")), "db", {"db": False}, Order(at_once=1), (), {"x": "'db' failed before"}),
        (
            (DB, Turn("x")),
            "db",
            {"db": False},
            Order(all_or_nothing=True),
            (),
            {"x": "'db' failed before"},
        ),
    ],
)
def test_turns(
    turns: tuple[Turn, ...],
    begun: str,
    ended: dict[str, bool],
    order: Order,
    now: tuple[str, ...],
    left: dict[str, str],
) -> None:
    following = next_turns(turns, set(begun.split()), ended, order)
    assert following.now == now
    assert following.left == left


class Works:
    """Records what is at work at once, and lets those that are to fail do so."""

    def __init__(self, *failing: str) -> None:
        self._lock = threading.Lock()
        self._failing = failing
        self._busy: set[str] = set()
        self.met: list[set[str]] = []

    def task(self, name: str, *requires: str) -> executor.Task:
        return executor.Task(name, partial(self._work, name), requires)

    def _work(self, name: str) -> Outcome:
        with self._lock:
            self._busy.add(name)
            self.met.append({*self._busy})
        threading.Event().wait(0.02)
        with self._lock:
            self._busy.remove(name)
        if name in self._failing:
            raise ValueError("odd")
        return Outcome(name, "updated")


def test_each_is_begun_after_what_it_requires() -> None:
    works = Works()
    tasks = [works.task("c", "a", "b"), works.task("a"), works.task("b", "a")]
    outcomes = executor.side_by_side(tasks, Interruption(), ignore)
    assert [each.machine for each in outcomes] == ["c", "a", "b"]
    assert works.met == [{"a"}, {"b"}, {"c"}]


def test_no_more_are_at_work_than_take_their_turns() -> None:
    works = Works()
    executor.side_by_side(
        [works.task(f"m{n}") for n in range(7)], Interruption(), ignore, Order(at_once=2)
    )
    assert len(works.met) == 7
    assert max(map(len, works.met)) == 2


def test_who_requires_what_failed_is_left_and_others_are_not() -> None:
    works = Works("db")
    tasks = [works.task("web", "db"), works.task("db"), works.task("mail"), works.task("x", "web")]
    web, db, mail, x = executor.side_by_side(tasks, Interruption(), ignore)
    assert (web.outcome, db.outcome, mail.outcome, x.outcome) == (
        "failed", "failed", "updated", "failed",
    )  # fmt: skip
    assert web.error is not None
    assert web.error.message == "'web' was left as it is: 'db', which it requires, failed"
    assert (web.status, db.status) == (1, 1)

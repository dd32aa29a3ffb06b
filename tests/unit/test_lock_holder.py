# SPDX-License-Identifier: GPL-3.0-or-later
"""When the holder of a lock is known to have died; the processes are real."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pyguixvm.hypervisor.machine_lock.holder import has_died, myself


def test_who_lives_has_not_died() -> None:
    assert not has_died(myself("deploy"))


@pytest.mark.parametrize(
    "fields",
    [{"boot": "another"}, {"boot": None}, {"namespaces": ("pid:[1]", "")}, {"namespaces": ()}],
)
def test_of_who_is_elsewhere_nothing_is_known(fields: dict[str, Any]) -> None:
    other = msgspec.structs.replace(myself("deploy"), start_time=1, **fields)
    assert not has_died(other)


def test_a_number_that_another_process_has_now_tells_nothing() -> None:
    me = myself("deploy")
    assert me.start_time is not None
    assert has_died(msgspec.structs.replace(me, start_time=me.start_time - 1))


@pytest.mark.parametrize("process", [0, -1, 10**30])
def test_no_process_has_such_a_number(process: int) -> None:
    assert not has_died(msgspec.structs.replace(myself("deploy"), process=process))


def test_who_ended_has_died_whether_its_parent_asked_for_it_or_not() -> None:
    with subprocess.Popen(["sleep", "infinity"]) as child:
        other = msgspec.structs.replace(myself("deploy"), process=child.pid, start_time=None)
        assert not has_died(other)
        # What tells a zombie is its state: its start is as it was.
        fields = Path(f"/proc/{child.pid}/stat").read_text().rpartition(")")[2].split()
        other = msgspec.structs.replace(other, start_time=int(fields[19]))
        assert not has_died(other)
        child.kill()
        deadline = time.monotonic() + 30
        while not has_died(other):
            assert time.monotonic() < deadline
            time.sleep(0.01)
    assert has_died(other)


def test_in_words_it_holds_no_control_characters() -> None:
    other = msgspec.structs.replace(myself("deploy"), user="\x1b[31m", host="h\n" * 1000)
    assert str(other).isprintable()
    assert len(str(other)) < 200

# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told to type is what they can type."""

from __future__ import annotations

import shlex

import pytest
from hypothesis import given
from hypothesis import strategies as st
from test_interference import SECOND, found, root
from test_storage_plan import DB, disk, planned, with_disks

from pyguixvm.advice import words
from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.data_record import DataRecord, FoundRecord
from pyguixvm.model.observation import Snapshot
from pyguixvm.plan.interference import require_unkept

NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_a_shell_takes_names_as_they_are(names: list[str]) -> None:
    first, *rest = split = shlex.split(words(*names))
    assert (rest if first == "--" and split != names else split) == names


def test_names_of_others_are_told_as_a_shell_takes_them() -> None:
    with pytest.raises(RequestRefusedError) as refused:
        require_unkept(found(root(SECOND), snapshots=(Snapshot("before it's late"),)))
    *_, command = (refused.value.hint or "").partition("any more: ")
    assert shlex.split(command) == ["virsh", "snapshot-delete", "web", "before it's late"]


def test_so_are_pools() -> None:
    record = FoundRecord(DataRecord("my pool", DB))
    hint = planned(with_disks(disk()), None, recorded=(record,)).hint or ""
    assert "virsh pool-start 'my pool'" in hint
    assert hint.endswith(f"pyguixvm volumes forget 'my pool/{DB}'")

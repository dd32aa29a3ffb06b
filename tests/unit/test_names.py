# SPDX-License-Identifier: GPL-3.0-or-later
"""Names of volumes."""

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pyguixvm.model import volume_names

HASH = "0v2bxc6kxrrjdm9wyfqyxk9qh6dcl5wm"


@given(machine=st.from_regex(r"[a-z0-9.-]+", fullmatch=True), number=st.integers(1, 10**6))
def test_a_generations_volume_tells_machine_and_number(machine, number):
    assert volume_names.generation_of(volume_names.generation_volume(machine, number)) == (
        machine,
        number,
    )


@pytest.mark.parametrize(
    "volume",
    [
        "web.g1.qcow2",
        "pyguixvm-web.qcow2",
        "pyguixvm-web.g0.qcow2",
        "pyguixvm-web.g1.qcow2.partial",
        f"pyguixvm-{HASH}.img",
    ],
)
def test_other_volumes_are_no_generations(volume):
    assert volume_names.generation_of(volume) is None


@given(
    machine=st.from_regex(r"[a-z0-9.-]+", fullmatch=True),
    disk=st.from_regex(r"[a-z0-9]([a-z0-9-]{0,9}[a-z0-9])?", fullmatch=True),
)
def test_a_data_volume_tells_machine_and_disk(machine, disk):
    volume = volume_names.data_volume(machine, disk)
    if re.fullmatch(r"g[1-9][0-9]*", disk):  # the declaration refuses these
        assert volume_names.data_of(volume) is None
    else:
        assert volume_names.data_of(volume) == (machine, disk)
        assert volume_names.generation_of(volume) is None


@pytest.mark.parametrize(
    "volume",
    ["pyguixvm-web.g1.qcow2", "pyguixvm-web.qcow2", "pyguixvm-web.lock", "web.db.qcow2"],
)
def test_other_volumes_hold_no_data(volume):
    assert volume_names.data_of(volume) is None


def test_a_store_item_is_named_by_its_hash_alone():
    assert volume_names.base_volume(f"/gnu/store/{HASH}-image.img") == f"pyguixvm-{HASH}.img"
    assert volume_names.base_volume(f"/gnu/store/{HASH}-image.img", size=1, modified=2) == (
        f"pyguixvm-{HASH}.img"
    )


IDENTITIES = [
    ("/srv/a.qcow2", 1, 1),
    ("/srv/a.qcow2", 1, 2),
    ("/srv/a.qcow2", 2, 1),
    ("/srv/b.qcow2", 1, 1),
    (f"/gnu/store/{HASH}-images/disk.img", 1, 1),
    (f"/gnu/store/{HASH}-images/other.img", 1, 1),
]


def test_any_other_file_is_named_by_path_size_and_time():
    volumes = {volume_names.base_volume(p, size=s, modified=m) for p, s, m in IDENTITIES}
    assert len(volumes) == len(IDENTITIES)
    assert all(volume_names.is_ours(volume) and volume.endswith(".img") for volume in volumes)


def test_a_marker_is_ours_and_no_generation():
    marker = volume_names.marker(volume_names.generation_volume("web", 1))
    assert marker == "pyguixvm-web.g1.qcow2.partial"
    assert volume_names.is_ours(marker)
    assert volume_names.is_marker(marker)

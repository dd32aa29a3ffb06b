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


@pytest.mark.parametrize("digest", ["0123456789abcdef" * 4, HASH])
def test_a_base_volume_is_known_by_its_name_and_by_that_of_earlier_versions(digest):
    volume = volume_names.base_volume(digest)
    assert volume_names.is_ours(volume)
    assert volume_names.is_base(volume)
    assert not volume_names.is_base(volume_names.marker(volume))
    assert not volume_names.is_base(volume.replace(digest, digest[1:]))


@pytest.mark.parametrize(
    ("path", "whole"),
    [
        (f"/gnu/store/{HASH}-image.img", True),
        (f"/gnu/store/{HASH}-images/disk.img", False),
        (f"/srv/{HASH}-image.img", False),
    ],
)
def test_only_a_whole_store_item_is_one(path, whole):
    assert volume_names.is_store_item(path) == whole


def test_a_marker_is_ours_and_no_generation():
    marker = volume_names.marker(volume_names.generation_volume("web", 1))
    assert marker == "pyguixvm-web.g1.qcow2.partial"
    assert volume_names.is_ours(marker)
    assert volume_names.is_marker(marker)

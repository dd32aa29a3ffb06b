# SPDX-License-Identifier: GPL-3.0-or-later
"""New disks, made by the real mkfs and looked at with the tools of their file systems."""

from __future__ import annotations

import resource
import subprocess
from pathlib import Path

import pytest

from pyguixvm.errors import RequestRefusedError
from pyguixvm.image import overlay
from pyguixvm.image.blank import make_disk, make_root
from pyguixvm.process import CommandFailedError

MIB = 1024**2


@pytest.mark.parametrize("file_system", ["ext4", "btrfs"])
def test_a_new_disk_is_a_labelled_empty_file_system(tmp_path: Path, file_system: str) -> None:
    disk = tmp_path / "disk.qcow2"
    make_disk(disk, 20 * 1024 * MIB, file_system, "data-db", tmp_path)  # type: ignore[arg-type]
    info = overlay.inspect(disk)
    assert (info.format, info.virtual_size) == ("qcow2", 20 * 1024 * MIB)
    # Thin: what is sent are some megabytes.
    assert info.actual_size < 20 * MIB
    assert [path.name for path in tmp_path.iterdir()] == ["disk.qcow2"]
    raw = tmp_path / "raw"
    overlay.convert_to_raw(disk, "qcow2", raw)
    if file_system == "ext4":
        subprocess.run(["e2fsck", "-fn", raw], check=True, capture_output=True)
        label = subprocess.check_output(["e2label", raw], text=True)
    else:
        subprocess.run(["btrfs", "check", raw], check=True, capture_output=True)
        label = subprocess.check_output(["btrfs", "filesystem", "label", raw], text=True)
    assert label.strip() == "data-db"


def test_the_name_of_a_directory_is_no_option(tmp_path: Path) -> None:
    # To the tools of e2fsprogs, what follows a "?" in a name is one.
    directory = tmp_path / "a?offset=4096"
    directory.mkdir()
    make_root(directory / "disk.qcow2", 200 * MIB, "root", "/gnu/store/system", directory)
    assert [path.name for path in tmp_path.rglob("*")] == [directory.name, "disk.qcow2"]


def test_a_failure_leaves_nothing(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError):
        make_disk(tmp_path / "disk.qcow2", MIB, "btrfs", "data-db", tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_a_disk_that_no_file_can_hold_is_refused(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100 * MIB, limits[1]))
    try:
        with pytest.raises(RequestRefusedError, match=r"no file in .* can have 1G .*"):
            make_disk(tmp_path / "disk.qcow2", 1024 * MIB, "ext4", "data-db", tmp_path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []

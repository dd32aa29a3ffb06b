# SPDX-License-Identifier: GPL-3.0-or-later
"""Disks of which it is known before anything is built that they cannot come about."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from declarations import domain, machine, system

from pyguixvm.errors import EvaluationError
from pyguixvm.model.declaration import DataDisk
from pyguixvm.model.image import LocalImage
from pyguixvm.model.limits import LARGEST_MBR_DISK, LARGEST_QCOW2, check_storage

TIB = 1024**4
LOCAL = LocalImage(path="/image", format="raw", size=1, modified=1)


@pytest.mark.parametrize(
    ("image", "size", "words"),
    [
        (system(), LARGEST_MBR_DISK, None),
        (system(), LARGEST_MBR_DISK + 512, r"storage of 2T \(2199023255552 bytes\) .* MBR"),
        (system(), 3 * TIB, r"'web': the storage of 3T .* MBR .* 2199023255040 bytes"),
        (system(image_type="efi-raw"), 3 * TIB, None),
        # What partition table they have is not known yet.
        (system(image_type=None), 3 * TIB, None),
        (LOCAL, 3 * TIB, None),
        (LOCAL, LARGEST_QCOW2, None),
        (LOCAL, LARGEST_QCOW2 + 512, r"the storage of 2.0P .* more than an image can have"),
    ],
)
def test_storage_fits_the_image(image: object, size: int, words: str | None) -> None:
    declared = machine(image=image, domain=domain(storage=size))
    if words is None:
        check_storage(declared)
        return
    with pytest.raises(EvaluationError, match=words) as refused:
        check_storage(declared)
    assert refused.value.hint is not None
    assert refused.value.hint.startswith("Declare at most ")
    assert refused.value.location == "config.scm:3:1"


def test_data_disks_fit_an_image() -> None:
    disk = DataDisk(name="db", size=LARGEST_QCOW2 + 512, file_system="ext4", target="/db")
    with pytest.raises(EvaluationError, match=r"the disk 'db' of 2\.0P"):
        check_storage(machine(domain=domain(disks=(disk,))))


def test_the_largest_image_is_qemus(tmp_path: Path) -> None:
    create = ["qemu-img", "create", "-q", "-f", "qcow2", str(tmp_path / "image")]
    assert subprocess.run([*create, str(LARGEST_QCOW2)], check=False).returncode == 0
    assert subprocess.run([*create, str(LARGEST_QCOW2 + 512)], check=False).returncode != 0

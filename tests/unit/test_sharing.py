# SPDX-License-Identifier: GPL-3.0-or-later
"""Which way of sharing directories a hypervisor has."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyguixvm.hypervisor.shared_directories import sharing_driver, store_access


@pytest.mark.parametrize(
    ("uri", "uid", "virtiofsd", "driver"),
    [
        (None, 0, True, "virtiofs"),
        (None, 0, False, "9p"),
        (None, 1000, True, "9p"),
        ("qemu:///system", 1000, True, "virtiofs"),
        ("qemu:///system", 0, False, "9p"),
        ("qemu:///session", 0, True, "9p"),
        ("qemu+ssh://root@host/session", 0, True, "9p"),
        ("qemu+ssh://root@host/system", 0, False, "virtiofs"),
        ("qemu://host/system?no_verify=1", 0, False, "virtiofs"),
    ],
)
def test_the_driver_is_what_the_hypervisor_has(
    tmp_path: Path, uri: str | None, uid: int, virtiofsd: bool, driver: str
) -> None:
    if virtiofsd:
        (tmp_path / "50-virtiofsd.json").write_text("{}")
    assert sharing_driver(uri, uid, [tmp_path, tmp_path / "missing"]) == driver


@pytest.mark.parametrize(
    ("uri", "uid", "access"),
    [
        ("qemu:///system", 0, "writable"),
        ("qemu:///system", 1000, "writable"),
        ("qemu:///session", 1000, "read-only"),
        # Libvirt serves root as the system's, whatever the URI says.
        ("qemu:///session", 0, "writable"),
    ],
)
def test_only_libvirt_as_root_can_give_the_store_away(
    tmp_path: Path, uri: str, uid: int, access: str
) -> None:
    assert store_access(uri, uid, tmp_path) == access
    assert store_access(uri, uid, tmp_path / "missing") == "absent"

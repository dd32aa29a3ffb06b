# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with UEFI firmware is built, grown and booted like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest
from running import CONFIGS, Ran, pyguixvm, virsh

CONFIG = CONFIGS / "uefi.scm"
GIB = 1024**3


@pytest.fixture(scope="module")
def deployed() -> Iterator[Ran]:
    pyguixvm("undefine", "--yes", "uefi")
    yield pyguixvm("deploy", CONFIG)
    pyguixvm("undefine", "--yes", "uefi")


def test_it_is_ready(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert deployed.out.startswith("uefi deployed: ")


def test_it_has_firmware_without_secure_boot(deployed: Ran) -> None:
    xml = virsh("dumpxml", "uefi")
    assert "OVMF" in xml
    assert "secure='no'" in xml or "name='secure-boot'" in xml


def test_its_root_has_grown(deployed: Ran) -> None:
    reply = virsh("qemu-agent-command", "uefi", json.dumps({"execute": "guest-get-fsinfo"}))
    (root,) = [f for f in json.loads(reply)["return"] if f["mountpoint"] == "/"]
    assert 8.5 * GIB < root["total-bytes"] < 10 * GIB


def test_deploying_it_again_finds_nothing_to_do(deployed: Ran) -> None:
    again = pyguixvm("deploy", CONFIG)
    assert again.out == "uefi unchanged, nothing to do\n", again.err
    seen = pyguixvm("status", "--exit-code", CONFIG)
    assert seen.status == 0, seen.out


def test_its_nvram_goes_with_it(deployed: Ran) -> None:
    assert pyguixvm("undefine", "--yes", "uefi").status == 0
    assert "uefi" not in virsh("list", "--all", "--name").split()

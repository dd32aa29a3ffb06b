# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine with a btrfs root is built, grown and booted like any other."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from running import CONFIGS, Ran, pyguixvm, virsh

CONFIG = CONFIGS / "btrfs.scm"
GIB = 1024**3


@pytest.fixture(scope="module")
def deployed() -> Iterator[Ran]:
    pyguixvm("undefine", "--yes", "btrfs")
    # As without FUSE, which Guix's QEMU has none of.  That all ways make the same of it, the
    # tests of growing show.
    yield pyguixvm("deploy", CONFIG, PYGUIXVM_GROW="metadata")
    pyguixvm("undefine", "--yes", "btrfs")


def root_file_system() -> dict[str, Any]:
    """Return what the guest itself says about its root."""
    reply = virsh("qemu-agent-command", "btrfs", json.dumps({"execute": "guest-get-fsinfo"}))
    (root,) = [found for found in json.loads(reply)["return"] if found["mountpoint"] == "/"]
    return dict(root)


def test_it_is_ready(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert deployed.out.startswith("btrfs deployed: ")


def test_its_root_is_btrfs_and_has_grown(deployed: Ran) -> None:
    root = root_file_system()
    assert root["type"] == "btrfs"
    assert 9.5 * GIB < root["total-bytes"] < 10 * GIB


def test_deploying_it_again_finds_nothing_to_do(deployed: Ran) -> None:
    again = pyguixvm("plan", "--exit-code", CONFIG)
    assert again.status == 0, again.out + again.err
    seen = pyguixvm("status", "--exit-code", CONFIG)
    assert seen.status == 0, seen.out

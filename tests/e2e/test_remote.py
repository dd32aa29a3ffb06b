# SPDX-License-Identifier: GPL-3.0-or-later
"""A hypervisor whose files we do not see: the image travels, once, as a base volume.

A connection through a socket that is named counts as remote, for such a socket may be
the end of a tunnel: to pyguixvm this is what qemu+ssh:// is.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIGS, Ran, pyguixvm, virsh

CONFIG = CONFIGS / "agent.scm"
URI = "qemu+unix:///system?socket=/run/libvirt/libvirt-sock"


def volumes() -> set[str]:
    return {line.split()[0] for line in virsh("vol-list", "default").splitlines() if line.strip()}


@pytest.fixture(scope="module")
def deployed() -> Iterator[Ran]:
    pyguixvm("-c", URI, "undefine", "--yes", "agent")
    yield pyguixvm("-c", URI, "deploy", CONFIG)
    pyguixvm("-c", URI, "undefine", "--yes", "agent")


def test_it_is_ready(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert deployed.out.startswith("agent deployed: ")


def test_the_image_was_copied_and_nothing_refers_to_the_store(deployed: Ran) -> None:
    store_hash = pyguixvm("build", CONFIG).out.strip().removeprefix("/gnu/store/")[:32]
    base = f"pyguixvm-{store_hash}.img"
    assert {base, "pyguixvm-agent.g1.qcow2"} <= volumes()
    assert not any(name.endswith(".partial") for name in volumes())
    xml = virsh("dumpxml", "--inactive", "agent")
    assert base in xml
    assert "<source file='/gnu/store" not in xml


def test_the_copy_is_the_image(deployed: Ran) -> None:
    image = Path(pyguixvm("build", CONFIG).out.strip())
    base = Path(virsh("vol-path", f"pyguixvm-{image.name[:32]}.img", "default"))
    with image.open("rb") as ours, base.open("rb") as theirs:
        while block := ours.read(2**20):
            assert theirs.read(2**20) == block
    # Sparse as the image is, but for what alignment costs.
    assert base.stat().st_blocks <= image.stat().st_blocks * 1.1 + 2048


def test_deploying_again_sends_nothing(deployed: Ran) -> None:
    again = pyguixvm("-c", URI, "deploy", CONFIG)
    assert (again.status, again.out) == (0, "agent unchanged, nothing to do\n"), again.err

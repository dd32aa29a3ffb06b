# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine runs from the store of its host, changes, and goes back; no image is made."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIGS, Ran, command, pyguixvm, virsh
from guest import Guest

CONFIG = CONFIGS / "shared.scm"
MAC = "52:54:00:ab:cd:05"
OPTION = ("--strategy", "shared-store")
guest = Guest("shared")


def settings(edition: str) -> dict[str, str]:
    return {"PYGUIXVM_TEST_EDITION": edition, "PYGUIXVM_TEST_MAC": MAC}


def deploy(edition: str) -> Ran:
    return pyguixvm("deploy", CONFIG, *OPTION, "-v", **settings(edition))


def plan(edition: str, *options: str) -> dict[str, Any]:
    planned = pyguixvm("plan", CONFIG, "--json", *options, **settings(edition))
    assert planned.status == 0, planned.err
    machine: dict[str, Any] = planned.json["plans"][0]["machines"][0]
    return machine


def actions(planned: dict[str, Any]) -> list[str]:
    return [action["action"] for action in planned["actions"]]


def generations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyguixvm("generations", "shared", "--json").json["generations"]
    return found


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[Ran]:
    """Deploy the machine that the tests change, one after the other; it goes at the end."""
    pyguixvm("undefine", "--yes", "--delete-data", "shared")
    yield deploy("one")
    pyguixvm("undefine", "--yes", "--delete-data", "shared")


def test_no_image_is_made(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert "-disk-image" not in deployed.err
    (generation,) = generations()
    assert generation["image"].endswith("-system")
    # The root holds what the guest wrote to it, not the system.
    assert generation["size"] < 100 * 1024**2
    assert guest.content("/etc/edition") == "one"


def test_the_guest_sees_the_store_of_its_host_and_cannot_change_it() -> None:
    device, kind, options = guest.mounts()["/gnu/store"]
    assert (device, kind) == ("pyguixvm-store", "9p")
    assert "ro" in options.split(",")
    assert guest.mounts()["/"][1] == "ext4"
    # Something that the guest's system knows nothing of is there as well.
    (new,) = (Path(line) for line in [added_to_the_store()])
    assert guest.content(str(new)) == new.read_text()
    refused = command(
        "virsh", "-c", "qemu:///system", "qemu-agent-command", "shared",
        f'{{"execute": "guest-file-open", "arguments": {{"path": "{new}", "mode": "w"}}}}',
    )  # fmt: skip
    assert refused.status != 0
    assert "Read-only file system" in refused.err


def added_to_the_store() -> str:
    expression = f'(plain-file "of-the-host" "{os.getpid()}")'
    built = command("guix", "build", "-e", f"(begin (use-modules (guix gexp)) {expression})")
    assert built.status == 0, built.err
    return built.out.strip()


def test_what_differs_is_told_without_the_option() -> None:
    assert actions(plan("one", *OPTION)) == []
    back = plan("one")
    assert back["effect"] == "replace"
    assert {"path": "image", "effect": "replace"}.items() <= back["differences"][0].items()
    assert "create-root" in actions(back)
    compared = pyguixvm("status", CONFIG, "--exit-code", **settings("one"))
    assert compared.status == 8
    assert "none, the shared store of its host -> " in compared.out
    applied = pyguixvm("status", "shared")
    assert "deployed" in applied.out
    assert "runs from the shared store of its host" in applied.out


def test_a_changed_file_is_a_new_generation_that_keeps_what_persists() -> None:
    guest.write("/var/lib/kept/note", "of generation 1")
    guest.write("/root/note", "of generation 1")
    assert actions(plan("two", *OPTION))[:2] == ["realize-system", "create-empty-root"]
    changed = deploy("two")
    assert changed.status == 0, changed.err
    assert "-disk-image" not in changed.err
    assert guest.content("/etc/edition") == "two"
    assert guest.content("/var/lib/kept/note") == "of generation 1"
    with pytest.raises(AssertionError, match="No such file"):
        guest.content("/root/note")


def test_a_roll_back_brings_system_and_root_back() -> None:
    before, after = generations()
    assert before["image"] != after["image"]
    rolled_back = pyguixvm("rollback", "shared")
    assert rolled_back.status == 0, rolled_back.err
    assert guest.content("/etc/edition") == "one"
    assert guest.content("/root/note") == "of generation 1"
    assert before["image"] in guest.content("/proc/cmdline")
    # Both systems are kept from Guix's garbage collector, until their generations go.
    kept = [root.readlink() for root in gc_roots()]
    assert sorted(map(str, kept)) == sorted([before["image"], after["image"]])


def test_nothing_is_left_of_it() -> None:
    roots = list(gc_roots())
    assert pyguixvm("undefine", "--yes", "--delete-data", "shared").status == 0
    assert not [root for root in roots if root.is_symlink()]
    assert "pyguixvm-shared." not in virsh("vol-list", "default")


def gc_roots() -> Iterator[Path]:
    state = Path(os.environ.get("XDG_STATE_HOME") or Path.home() / ".local/state")
    for directory in (state / "pyguixvm/gc-roots").iterdir():
        if (directory / "shared").is_dir():
            yield from (directory / "shared").iterdir()

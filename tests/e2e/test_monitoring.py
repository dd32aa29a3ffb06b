# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest that somebody changes by hand, inside: status says so, and an alert fires."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from conftest import CONFIGS, pyguixvm
from exporting import exporter, prometheus
from guest import Guest, eventually

CONFIG = CONFIGS / "live.scm"
NAME = "live"
guest = Guest(NAME)
FIRING = f'ALERTS{{alertname="GuestNotAsDeployed", machine="{NAME}", alertstate="firing"}}'
# A system that nobody deployed: what is in it does not matter here.
BY_HAND = f"/gnu/store/{'0' * 32}-system"


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[None]:
    pyguixvm("undefine", "--yes", NAME)
    first = pyguixvm("deploy", CONFIG)
    assert first.status == 0, first.err
    yield
    pyguixvm("undefine", "--yes", NAME)


def run(command: str) -> None:
    """Have the guest's shell run COMMAND, to the end."""
    shell = "/run/current-system/profile/bin/sh"
    script = f"PATH=/run/current-system/profile/bin:/run/current-system/profile/sbin; {command}"
    begun = guest.agent("guest-exec", path=shell, arg=["-c", script])
    eventually(lambda: guest.agent("guest-exec-status", pid=begun["pid"])["exited"])


def reconfigure(system: str) -> None:
    """Have the guest run SYSTEM, as 'guix system reconfigure' in it does in the end."""
    run(f"ln -s {system} /run/new && mv -T /run/new /run/current-system")


def status(*options: str) -> tuple[dict[str, Any], int]:
    ran = pyguixvm("status", "--json", "--exit-code", *options, CONFIG)
    (machine,) = json.loads(ran.out)["machines"]
    return machine, ran.status


def test_a_guest_that_is_changed_by_hand_is_told_and_an_alert_fires(tmp_path: Path) -> None:
    found, exit_status = status()
    assert (found["status"], exit_status) == ("deployed", 0), found
    assert found["guest"] == {"verdict": "as deployed", "generation": 1, "booted": 1}
    inside = found["inside"]
    deployed = inside["running"]
    assert inside["booted"] == deployed
    assert inside["restart"] is False
    # Whoever may only look cannot ask it, but knows what it wrote on its console.
    looking = pyguixvm("status", "--json", "-c", "qemu:///system?ro", NAME)
    (seen,) = json.loads(looking.out)["machines"]
    assert seen["guest"] == {"verdict": "booted as deployed", "generation": None, "booted": 1}
    assert (seen["booted"], seen["inside"]) == (deployed, None)
    # The first time, while it boots still, it may take longer than anybody waits.
    eventually(lambda: status()[0]["inside"]["failed"] == [])
    assert 0 < inside["uptime"] < 3600
    assert abs(inside["clock"]) < 30
    (root,) = (each for each in inside["file-systems"] if each["target"] == "/")
    assert 0 < root["used"] < root["total"]
    with (
        exporter(tmp_path, str(CONFIG), "--interval", "2") as asked,
        prometheus(tmp_path, asked.port) as watching,
    ):
        watching.wait(f'pyguixvm_machine_guest_as_deployed{{machine="{NAME}"}}', 1, 120)
        assert watching.value(FIRING) is None
        run(f"unshare -m sh -c 'mount -o remount,bind,rw /gnu/store && cp -a {deployed} {BY_HAND}'")
        reconfigure(BY_HAND)
        changed, exit_status = status()
        assert (changed["status"], exit_status) == ("drifted", 8), changed
        assert changed["guest"]["verdict"] == "reconfigured"
        (difference,) = changed["differences"]
        assert (difference["old"], difference["new"]) == (BY_HAND, deployed)
        # The guest is asked each half minute, and the alert waits for a minute.
        watching.wait(f'pyguixvm_machine_guest_as_deployed{{machine="{NAME}"}}', 0, 120)
        watching.wait(FIRING, 1, 150)
        assert status("--ignore", "guest.system")[1] == 0
        reconfigure(deployed)
        assert status()[1] == 0
        watching.wait(f'pyguixvm_machine_guest_as_deployed{{machine="{NAME}"}}', 1, 120)
        watching.wait(FIRING, None)

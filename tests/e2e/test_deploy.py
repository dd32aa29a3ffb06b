# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's life, from its declaration to its removal, on the real parts."""

from __future__ import annotations

import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from exporting import exporter, prometheus
from guest import Guest, eventually
from running import CONFIGS, Ran, command, pyguixvm, virsh

CONFIG = CONFIGS / "agent.scm"
MIB = 1024**2
GIB = 1024 * MIB
guest = Guest("agent")
FIRING = 'ALERTS{alertname="GuestNotAsDeployed", machine="agent", alertstate="firing"}'
# A system that nobody deployed: what is in it does not matter here.
BY_HAND = f"/gnu/store/{'0' * 32}-system"


@pytest.fixture(scope="module")
def deployed() -> Iterator[Ran]:
    """Yield how the first deployment went; the machine is gone afterwards."""
    pyguixvm("undefine", "--yes", "agent")
    yield pyguixvm("deploy", CONFIG)
    pyguixvm("undefine", "--yes", "agent")


def test_it_is_ready_with_an_address(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert deployed.out.startswith("agent deployed: ")
    assert "192.168.122." in deployed.out
    assert virsh("domstate", "agent") == "running"


def test_it_is_listed(deployed: Ran) -> None:
    (machine,) = [m for m in pyguixvm("list", "--json").json["machines"] if m["machine"] == "agent"]
    assert machine["state"] == "running"
    assert (machine["cpu"], machine["memory"], machine["generation"]) == (2, 512 * MIB, 1)
    assert machine["autostart"] is True
    assert any(address.startswith("192.168.122.") for address in machine["addresses"])


def test_status_says_where_it_is(deployed: Ran) -> None:
    said = pyguixvm("status", CONFIG)
    (there,) = [m for m in pyguixvm("status", "--json").json["machines"] if m["machine"] == "agent"]
    assert there["addresses"]
    assert f"agent: deployed, generation 1, {there['addresses'][0]}" in said.out


def test_the_guest_sees_what_was_declared(deployed: Ran) -> None:
    (root,) = [f for f in guest.agent("guest-get-fsinfo") if f["mountpoint"] == "/"]
    # ext4 keeps some of it for itself, and 5 % for root; the ESP is 40 MiB.
    assert 4.2 * GIB < root["total-bytes"] < 5 * GIB
    assert len(guest.agent("guest-get-vcpus")) == 2
    assert guest.agent("guest-get-host-name") == {"host-name": "agent"}


def test_its_console_can_be_joined_and_left(deployed: Ran) -> None:
    ours, theirs = pty.openpty()
    joined = subprocess.Popen(
        ["pyguixvm", "console", "agent"], stdin=theirs, stdout=theirs, stderr=theirs
    )
    os.close(theirs)
    try:
        assert "Leave it with ^]" in read_until(ours, "bracket).", seconds=30)
        # What is typed before the terminal is in raw mode is lost.
        for _ in range(30):
            os.write(ours, b"\r")
            if "agent login:" in read_until(ours, "login:", seconds=2):
                break
        else:
            pytest.fail("the guest does not ask for a login")
        os.write(ours, b"\x1d")
        assert joined.wait(timeout=20) == 0
    finally:
        joined.kill()
        joined.wait()
        os.close(ours)


def read_until(terminal: int, text: str, *, seconds: float) -> str:
    """Return what appears on TERMINAL up to TEXT, or within SECONDS."""
    seen = ""
    limit = time.monotonic() + seconds
    while text not in seen:
        left = max(0, limit - time.monotonic())
        if not select.select([terminal], [], [], left)[0]:
            break
        seen += os.read(terminal, 4096).decode(errors="replace")
    return seen


def test_deploying_again_changes_nothing(deployed: Ran) -> None:
    before = virsh("domid", "agent"), virsh("dumpxml", "--inactive", "agent")
    again = pyguixvm("deploy", CONFIG)
    assert (again.status, again.out) == (0, "agent unchanged, nothing to do\n"), again.err
    assert (virsh("domid", "agent"), virsh("dumpxml", "--inactive", "agent")) == before
    assert pyguixvm("plan", "--exit-code", CONFIG).status == 0


def test_the_store_item_stays_as_guix_made_it(deployed: Ran) -> None:
    told = command("qemu-img", "info", "-U", "--output=json", root_volume()).json
    backing = Path(told["backing-filename"])
    assert backing.parent == Path("/gnu/store")
    status = backing.stat()
    assert (status.st_uid, status.st_gid, status.st_mode & 0o777) == (0, 0, 0o444)


def root_volume() -> Path:
    return Path(virsh("vol-path", "--pool", "default", "pyguixvm-agent.g1.qcow2"))


def test_a_plan_says_what_a_changed_declaration_takes(deployed: Ran) -> None:
    plan = pyguixvm("plan", "--exit-code", CONFIG, PYGUIXVM_TEST_MEMORY="2G")
    assert plan.status == 8
    assert plan.out.startswith("~ agent: restart on qemu:///system, away for a shutdown and a boot")
    assert "domain.memory: 512M -> 2G (restart)" in plan.out
    assert "shut it down within 120 s" in plan.out
    assert pyguixvm("status", "agent").out.startswith("  agent: deployed, generation 1, ")


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
    (machine,) = ran.json["machines"]
    return machine, ran.status


def test_status_tells_what_is_inside(deployed: Ran) -> None:
    # The first time, while it boots still, it may take longer than anybody waits.
    eventually(lambda: status()[0]["inside"]["failed"] == [])
    found, exit_status = status()
    assert (found["status"], exit_status) == ("deployed", 0), found
    assert found["guest"] == {"verdict": "as deployed", "generation": 1, "booted": 1}
    inside = found["inside"]
    assert inside["booted"] == inside["running"]
    assert inside["restart"] is False
    assert 0 < inside["uptime"] < 3600
    assert abs(inside["clock"]) < 30
    (root,) = (each for each in inside["file-systems"] if each["target"] == "/")
    assert 0 < root["used"] < root["total"]
    # Whoever may only look cannot ask it, but knows what it wrote on its console.
    looking = pyguixvm("status", "--json", "-c", "qemu:///system?ro", "agent")
    (seen,) = looking.json["machines"]
    assert seen["guest"] == {"verdict": "booted as deployed", "generation": None, "booted": 1}
    assert (seen["booted"], seen["inside"]) == (inside["running"], None)


def test_a_guest_that_is_changed_by_hand_is_told_and_an_alert_fires(
    deployed: Ran, tmp_path: Path
) -> None:
    running = status()[0]["inside"]["running"]
    with (
        exporter(tmp_path, str(CONFIG), "--interval", "2") as asked,
        prometheus(tmp_path, asked.port) as watching,
    ):
        as_deployed = 'pyguixvm_machine_guest_as_deployed{machine="agent"}'
        watching.wait(as_deployed, 1, 120)
        assert watching.value(FIRING) is None
        run(f"unshare -m sh -c 'mount -o remount,bind,rw /gnu/store && cp -a {running} {BY_HAND}'")
        reconfigure(BY_HAND)
        changed, exit_status = status()
        assert (changed["status"], exit_status) == ("drifted", 8), changed
        assert changed["guest"]["verdict"] == "reconfigured"
        (difference,) = changed["differences"]
        assert (difference["old"], difference["new"]) == (BY_HAND, running)
        # The guest is asked each half minute.
        watching.wait(FIRING, 1, 120)
        assert status("--ignore", "guest.system")[1] == 0
        reconfigure(running)
        assert status()[1] == 0
        watching.wait(as_deployed, 1, 120)
        watching.wait(FIRING, None)


def test_undefine_asks_first(deployed: Ran) -> None:
    asked = pyguixvm("undefine", "agent")
    assert asked.status == 2
    assert "--yes" in asked.err
    assert virsh("domstate", "agent") == "running"


def test_it_shuts_down(deployed: Ran) -> None:
    stopped = pyguixvm("shutdown", "agent")
    assert (stopped.status, stopped.out) == (0, "agent: shut down by its guest agent\n")
    assert virsh("domstate", "agent") == "shut off"
    plan = pyguixvm("plan", CONFIG)
    assert "start it" in plan.out


def test_it_is_powered_off_and_removed(deployed: Ran) -> None:
    # That it is ready again once it is started, is shown of the machine that is changed live.
    virsh("start", "agent")
    assert pyguixvm("destroy", "agent").out == "agent: powered off\n"
    volume = root_volume()
    assert volume.exists()
    assert pyguixvm("undefine", "--yes", "agent").out == "agent: removed\n"
    assert not volume.exists()
    assert "agent" not in virsh("list", "--all", "--name").split()
    gone = pyguixvm("start", "agent")
    assert gone.status == 1
    assert "there is no machine 'agent'" in gone.err

# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine's life, from its declaration to its removal, on the real parts."""

from __future__ import annotations

import json
import os
import pty
import select
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from conftest import CONFIGS, Ran, command, pyguixvm, virsh

CONFIG = CONFIGS / "agent.scm"
GIB = 1024**3


@pytest.fixture(scope="module")
def deployed() -> Iterator[Ran]:
    """Yield how the first deployment went; the machine is gone afterwards."""
    pyguixvm("undefine", "--yes", "agent")
    yield pyguixvm("deploy", CONFIG)
    pyguixvm("undefine", "--yes", "agent")


def agent(request: str) -> object:
    reply = virsh("qemu-agent-command", "agent", json.dumps({"execute": request}))
    return json.loads(reply)["return"]


def test_it_is_ready_with_an_address(deployed: Ran) -> None:
    assert deployed.status == 0, deployed.err
    assert deployed.out.startswith("agent deployed: ")
    assert "192.168.122." in deployed.out
    assert virsh("domstate", "agent") == "running"


def test_it_is_listed(deployed: Ran) -> None:
    (machine,) = [m for m in pyguixvm("list", "--json").json["machines"] if m["machine"] == "agent"]
    assert machine["state"] == "running"
    assert (machine["cpu"], machine["memory"], machine["generation"]) == (2, GIB, 1)
    assert machine["autostart"] is True
    assert any(address.startswith("192.168.122.") for address in machine["addresses"])


def test_status_says_where_it_is(deployed: Ran) -> None:
    said = pyguixvm("status", CONFIG)
    (there,) = [m for m in pyguixvm("status", "--json").json["machines"] if m["machine"] == "agent"]
    assert there["addresses"]
    assert f"agent: deployed, generation 1, {there['addresses'][0]}" in said.out


def test_the_guest_sees_what_was_declared(deployed: Ran) -> None:
    (root,) = [f for f in agent("guest-get-fsinfo") if f["mountpoint"] == "/"]  # type: ignore[attr-defined]
    # ext4 keeps some of it for itself, and 5 % for root; the ESP is 40 MiB.
    assert 4.2 * GIB < root["total-bytes"] < 5 * GIB
    assert len(agent("guest-get-vcpus")) == 2  # type: ignore[arg-type]
    assert agent("guest-get-host-name") == {"host-name": "agent"}


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
    assert "domain.memory: 1G -> 2G (restart)" in plan.out
    assert "shut it down within 120 s" in plan.out
    assert pyguixvm("status", "agent").out.startswith("  agent: deployed, generation 1, ")


def test_undefine_asks_first(deployed: Ran) -> None:
    asked = pyguixvm("undefine", "agent")
    assert asked.status == 2
    assert "--yes" in asked.err
    assert virsh("domstate", "agent") == "running"


def test_it_shuts_down_and_starts(deployed: Ran) -> None:
    stopped = pyguixvm("shutdown", "agent")
    assert (stopped.status, stopped.out) == (0, "agent: shut down by its guest agent\n")
    assert virsh("domstate", "agent") == "shut off"
    plan = pyguixvm("plan", CONFIG)
    assert "start it" in plan.out
    started = pyguixvm("start", "agent")
    assert started.status == 0, started.err
    assert "192.168.122." in started.out


def test_it_is_powered_off_and_removed(deployed: Ran) -> None:
    assert pyguixvm("destroy", "agent").out == "agent: powered off\n"
    volume = root_volume()
    assert volume.exists()
    assert pyguixvm("undefine", "--yes", "agent").out == "agent: removed\n"
    assert not volume.exists()
    assert "agent" not in virsh("list", "--all", "--name").split()
    gone = pyguixvm("start", "agent")
    assert gone.status == 1
    assert "there is no machine 'agent'" in gone.err

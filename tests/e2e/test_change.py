# SPDX-License-Identifier: GPL-3.0-or-later
"""A deployed machine follows its declaration, and every change can be taken back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from guest import Guest, eventually
from running import CONFIGS, Ran, pyguixvm, virsh

CONFIG = CONFIGS / "change.scm"
MIB = 1024**2
guest = Guest("change")
SECOND = "52:54:00:ab:cd:02"


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[None]:
    """Deploy the machine that the tests change, one after the other; it goes at the end."""
    pyguixvm("undefine", "--yes", "change")
    first = deploy()
    assert first.status == 0, first.err
    yield
    pyguixvm("undefine", "--yes", "change")


def settings(**changes: str) -> dict[str, str]:
    return {f"PYGUIXVM_TEST_{name.upper()}": value for name, value in changes.items()}


def deploy(*arguments: str, **changes: str) -> Ran:
    return pyguixvm("deploy", CONFIG, *arguments, **settings(**changes))


def plan(**changes: str) -> dict[str, Any]:
    planned = pyguixvm("plan", CONFIG, "--json", **settings(**changes))
    assert planned.status == 0, planned.err
    machine: dict[str, Any] = planned.json["plans"][0]["machines"][0]
    return machine


def status(**changes: str) -> tuple[int, str]:
    found = pyguixvm("status", CONFIG, "--json", "--exit-code", **settings(**changes))
    (machine,) = found.json["machines"]
    # What differs is for who reads why a test failed.
    print(machine.get("differences"), machine.get("inside"))
    return found.status, machine["status"]


def becomes_deployed(**changes: str) -> None:
    # A guest that boots has all of its memory until its balloon takes the rest; what status asks
    # of it would keep it from that.
    eventually(lambda: "balloon.current=524288\n" in virsh("domstats", "--balloon", "change"), 180)
    eventually(lambda: status(**changes) == (0, "deployed"), seconds=180)


def guest_memory() -> int:
    """Return the memory that the guest has (bytes), without what its kernel keeps for itself."""
    line = guest.content("/proc/meminfo").splitlines()[0]
    assert line.startswith("MemTotal:")
    return int(line.split()[1]) * 1024


def guest_addresses() -> set[str]:
    """Return the MAC addresses of the interfaces that the guest has."""
    interfaces = guest.agent("guest-network-get-interfaces")
    return {interface.get("hardware-address") for interface in interfaces}


def generations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyguixvm("generations", "change", "--json").json["generations"]
    return found


def test_what_was_just_deployed_is_deployed() -> None:
    becomes_deployed()
    assert plan()["actions"] == []
    assert "change unchanged" in deploy().out


def test_memory_changes_in_the_running_guest() -> None:
    before, boot = guest_memory(), guest.booted()
    assert status(memory="768M") == (8, "drifted")
    assert deploy(memory="768M").status == 0
    eventually(lambda: guest_memory() - before > 200 * MIB)
    assert deploy(memory="384M").status == 0
    eventually(lambda: before - guest_memory() > 100 * MIB)
    assert guest.booted() == boot
    assert status(memory="384M") == (0, "deployed")


def test_a_save_changes_the_running_guest(tmp_path: Path) -> None:
    # The first round is to have nothing to do, whatever was declared before.
    assert deploy().status == 0
    config = tmp_path / "config.scm"
    declared = CONFIG.read_text()
    config.write_text(declared)
    line = 1 + declared[: declared.index("(memory ")].count("\n")
    shown, hooks = tmp_path / "shown", tmp_path / "hooks"
    hook = f"echo $PYGUIXVM_STATUS $PYGUIXVM_MESSAGE | cut -c 1-10 >> {hooks}"
    # An increment would be made before anybody can save once more.
    options = ["--full", "--verbose", "--on-success", hook, "--on-failure", hook]
    with shown.open("wb") as output:
        watch = subprocess.Popen(
            ["pyguixvm", "watch", config, *options], stdout=output, stderr=output
        )
    try:
        wait_for(shown, "waiting for")
        config.write_text(declared.replace('"MEMORY" "512M"', '"MEMORY" "768M"'))
        wait_for(shown, "change updated")
        eventually(lambda: guest_memory() > 600 * MIB)
        config.write_text(declared.replace("(memory ", "(memry "))
        wait_for(shown, f"{config}:{line}:13: error: libvirt-domain: unknown field 'memry'")
        saved = tmp_path / "new"
        saved.write_text(declared)
        saved.rename(config)
        wait_for(shown, "change updated", times=2)
        eventually(lambda: guest_memory() < 600 * MIB)
        # What takes long to build is given up when it is saved once more.
        boot, numbers = guest.booted(), [g["number"] for g in generations()]
        # No earlier run has built it.
        edition = f"not for long {time.time_ns()}"
        config.write_text(declared.replace('"EDITION" "one"', f'"EDITION" "{edition}"'))
        wait_for(shown, "The following derivations will be built")
        config.write_text(declared)
        wait_for(shown, "was saved meanwhile: starting over")
        # The round that was given up did not end; the first one had nothing to do, either.
        wait_for(shown, "to be saved", times=5)
        assert shown.read_text().count("change unchanged") == 2
        assert (guest.booted(), [g["number"] for g in generations()]) == (boot, numbers)
        statuses = [line.split()[0] for line in hooks.read_text().splitlines()]
        assert statuses == ["0", "0", "3", "0", "0"]
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 130
    finally:
        watch.kill()
        watch.wait()


def wait_for(shown: Path, words: str, times: int = 1) -> None:
    for _ in range(300):
        if shown.read_text().count(words) >= times:
            return
        time.sleep(0.1)
    pytest.fail(f"'{words}' is not shown, but:\n{shown.read_text()}")


def test_vcpus_are_plugged_into_the_running_guest() -> None:
    boot = guest.booted()
    assert deploy(cpu="3").status == 0
    assert virsh("vcpucount", "change", "--live", "--active") == "3"
    assert virsh("vcpucount", "change", "--config", "--active") == "3"
    assert guest.booted() == boot
    assert status(cpu="3") == (0, "deployed")


def test_an_interface_comes_and_goes_in_the_running_guest() -> None:
    boot = guest.booted()
    assert deploy(cpu="3", second="yes").status == 0
    eventually(lambda: SECOND in guest_addresses())
    assert status(cpu="3", second="yes") == (0, "deployed")
    assert deploy(cpu="3").status == 0
    eventually(lambda: SECOND not in guest_addresses())
    assert SECOND not in virsh("dumpxml", "--inactive", "change")
    assert guest.booted() == boot


def test_what_was_changed_with_virsh_shows_and_is_put_right() -> None:
    boot = guest.booted()
    virsh("setmem", "change", "400M", "--live")
    virsh("autostart", "change")
    virsh("desc", "change", "--title", "--config", "mine")
    virsh("domif-setlink", "change", "52:54:00:ab:cd:01", "down")
    differences = {d["path"]: d["effect"] for d in plan(cpu="3")["differences"]}
    assert differences == {
        "domain.autostart": "live",
        "domain.title": "live",
        "domain.memory": "live",
        "domain.networking.52:54:00:ab:cd:01": "live",
    }
    assert deploy(cpu="3").status == 0
    assert status(cpu="3") == (0, "deployed")
    assert guest.booted() == boot


def test_what_needs_a_restart_can_be_left_pending() -> None:
    boot = guest.booted()
    assert plan(cpu="1")["effect"] == "restart"
    pending = deploy("--no-restart", cpu="1")
    assert (pending.status, guest.booted()) == (0, boot)
    assert "pending until its restart: domain.cpu" in pending.out
    assert status(cpu="1") == (8, "pending restart")
    restarted = deploy(cpu="1")
    assert restarted.out.startswith("change restarted"), restarted.err
    assert guest.booted() != boot
    becomes_deployed()


def test_a_guest_that_reboots_is_as_deployed_as_before() -> None:
    boot = guest.booted()
    assert pyguixvm("reboot", "change").status == 0
    for _ in range(120):
        time.sleep(1)
        try:
            if guest.booted() != boot:
                break
        except AssertionError:
            continue  # the agent is not back yet
    becomes_deployed()


# All that an operating-system can gain, in one: it boots once.
SECOND_SYSTEM = {
    "edition": "two",
    "packages": "dosfstools",
    "users": "ada",
    "services": "greeting",
    "arguments": "answer=42",
}


def test_another_system_is_another_generation() -> None:
    planned = plan(**SECOND_SYSTEM)
    assert planned["strategy"] == "increment"
    updated = deploy("--test", **SECOND_SYSTEM)
    assert updated.status == 0, updated.err
    assert ", increment: its image is there to stand on" in updated.err
    assert "change: tried in a throwaway copy: started by its kernel; " in updated.err
    assert_no_trial_is_left()
    assert updated.out.startswith("change updated")
    assert "away for" in updated.out
    assert guest.content("/etc/edition") == "two"
    assert guest.content("/run/current-system/profile/sbin/mkfs.fat", 2)
    assert "\nada:" in guest.content("/etc/passwd")
    assert guest.content("/etc/greeting") == "greeting"
    assert "answer=42" in guest.content("/proc/cmdline")
    first, second = generations()
    assert [(g["number"], g["current"]) for g in (first, second)] == [(1, False), (2, True)]
    # It stands on the image of the first, with what changed beside it.
    assert second["image"] == first["image"]
    assert 0 < second["increment"] < 50 * MIB
    assert second["downtime"] > 0
    assert plan(edition="three")["downtime"] == second["downtime"]
    becomes_deployed(**SECOND_SYSTEM)
    # What a system is about is told without that anything is built: dosfstools, ada, greeting go.
    told = {
        (change["kind"], change["name"].partition("-")[0], change["change"])
        for change in plan()["system-changes"]
    }
    assert {
        ("package", "dosfstools", "went"),
        ("file", "edition", "changed"),
        ("file", "greeting", "went"),
    } <= told, told


def assert_no_trial_is_left() -> None:
    assert "change-test" not in virsh("list", "--all", "--name")
    assert ".trial" not in virsh("vol-list", "default")
    assert ".partial" not in virsh("vol-list", "default")


def test_a_system_whose_copy_does_not_get_ready_leaves_the_machine_alone() -> None:
    boot, numbers = guest.booted(), [g["number"] for g in generations()]
    # The copy of a run that is killed ends with it; its volume goes with the next one.
    changes = settings(edition="three", broken="yes", timeout="20")
    killed = subprocess.Popen(
        ["pyguixvm", "deploy", CONFIG, "--test"],
        env={**os.environ, **changes},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    eventually(lambda: "change-test" in virsh("list", "--name"))
    killed.kill()
    killed.wait()
    eventually(lambda: "change-test" not in virsh("list", "--all", "--name"))
    assert ".trial" in virsh("vol-list", "default")
    tried = deploy("--test", edition="three", broken="yes", timeout="20")
    assert tried.status == 1
    assert "'change' was left as it is: its throwaway copy is not ready" in tried.err
    assert "the console's last lines:" in tried.err
    assert_no_trial_is_left()
    assert (guest.booted(), [g["number"] for g in generations()]) == (boot, numbers)
    becomes_deployed(**SECOND_SYSTEM)
    untried = deploy("--test", **SECOND_SYSTEM, memory="768M")
    assert untried.status == 0, untried.err
    assert "change: there is nothing to try: it keeps its root" in untried.err
    assert deploy(**SECOND_SYSTEM).status == 0


def test_a_system_that_does_not_get_ready_is_taken_back() -> None:
    broken = deploy(edition="three", broken="yes", timeout="30")
    assert broken.status == 6
    assert "rolled back to generation 2" in broken.err
    assert "the console's last lines:" in broken.err
    assert guest.content("/etc/edition") == "two"
    assert [(g["number"], g["failed"]) for g in generations()] == [
        (1, False),
        (2, False),
        (3, True),
    ]
    becomes_deployed(**SECOND_SYSTEM)


def test_an_earlier_generation_comes_back_as_it_was() -> None:
    back = pyguixvm("rollback", "change")
    assert back.status == 0, back.err
    assert guest.content("/etc/edition") == "one"
    assert [g["number"] for g in generations() if g["current"]] == [1]
    # It is built: what the way forward would send is known.
    assert 0 < plan(**SECOND_SYSTEM)["bytes-to-move"] < 50 * MIB
    becomes_deployed()
    assert pyguixvm("rollback", "change", "7").status == 1


def test_gc_lets_go_of_what_no_kept_generation_needs() -> None:
    shown = pyguixvm("gc", "--dry-run")
    assert "change: generation 3" in shown.out
    assert pyguixvm("gc").status == 2  # nobody there to answer
    assert pyguixvm("gc", "--yes").status == 0
    assert [g["number"] for g in generations()] == [1, 2]
    volumes = virsh("vol-list", "default")
    assert "pyguixvm-change.g2.qcow2" in volumes
    assert "pyguixvm-change.g3.qcow2" not in volumes


def test_a_machine_that_is_not_declared_any_more_is_removed_when_asked(
    clean: Callable[[str], None],
) -> None:
    clean("other")
    renamed = settings(name="other", mac="52:54:00:ab:cd:03", unseen="yes")
    assert "- change: no longer declared" in pyguixvm("plan", CONFIG, **renamed).out
    compared = pyguixvm("status", CONFIG, "--json", **renamed).json["machines"]
    assert {m["machine"]: m["status"] for m in compared} == {
        "other": "missing",
        "change": "not declared",
    }
    pruned = pyguixvm("deploy", CONFIG, "--prune", "--yes", **renamed)
    assert pruned.status == 0, pruned.err
    assert [m["machine"] for m in pyguixvm("list", "--json").json["machines"]] == ["other"]
    assert "pyguixvm-change.g" not in virsh("vol-list", "default")

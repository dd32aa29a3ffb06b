# SPDX-License-Identifier: GPL-3.0-or-later
"""Another operating system in a guest that runs, by its agent alone, and the way back."""

from __future__ import annotations

import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import pytest
from guest import Guest, eventually
from running import CONFIGS, Ran, pyguixvm, virsh

CONFIG = CONFIGS / "live.scm"
NAME = "live"
guest = Guest(NAME)


@pytest.fixture(scope="module", autouse=True)
def deployed() -> Iterator[None]:
    pyguixvm("undefine", "--yes", NAME)
    first = pyguixvm("deploy", CONFIG)
    assert first.status == 0, first.err
    yield
    pyguixvm("undefine", "--yes", NAME)


def environment(**changes: str) -> dict[str, str]:
    return {f"PYGUIXVM_TEST_{name.upper()}": value for name, value in changes.items()}


def deploy(*options: str, **changes: str) -> Ran:
    return pyguixvm("deploy", CONFIG, "--strategy", "live", *options, **environment(**changes))


def generations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyguixvm("generations", NAME, "--json").json["generations"]
    return found


def numbers() -> list[tuple[int, bool]]:
    """Return the numbers of all generations, and which one is the current."""
    return [(each["number"], each["current"]) for each in generations()]


def run(command: str) -> str:
    """Have the guest's shell run COMMAND, to the end; return what it wrote."""
    script = f"PATH=/run/current-system/profile/bin; ({command}) > /run/ran 2>&1"
    shell = "/run/current-system/profile/bin/sh"
    begun = guest.agent("guest-exec", path=shell, arg=["-c", script])
    eventually(lambda: guest.agent("guest-exec-status", pid=begun["pid"])["exited"])
    return guest.content("/run/ran")


def there(file: str) -> bool:
    """Whether the guest has FILE; it says nothing while its file systems are frozen."""
    with suppress(AssertionError):
        return run(f"ls {file}") == f"{file}\n"
    return False


def edition_is(text: str) -> bool:
    """Whether the guest has the edition TEXT; it says nothing while its file systems are frozen."""
    with suppress(AssertionError):
        return guest.content("/etc/edition") == text
    return False


def told() -> tuple[str, ...]:
    return tuple(guest.content(f"/run/{name}") for name in ("teller", "below", "above"))


def test_a_change_arrives_in_the_guest_while_it_runs() -> None:
    boot = guest.booted()
    guest.write("/root/kept", "before")
    changed = deploy(edition="two", teller="two", below="two", newcomer="yes")
    assert changed.status == 0, changed.err
    assert guest.content("/etc/edition") == "two"
    # What has changed is restarted, but not what something else that runs depends on.
    assert told() == ("two", "one", "one")
    assert "service below has changed" in changed.err + changed.out
    assert guest.content("/run/newcomer") == "here"
    assert (guest.booted(), guest.content("/root/kept")) == (boot, "before")
    # Its own Guix knows what came, and its store is as read-only as before.
    system = run("readlink /run/current-system").strip()
    assert f"{system}\n" not in run(f"guix gc --references {system}")
    assert "-activate.scm" in run(f"guix gc --references {system}")
    assert "ro" in guest.mounts()["/gnu/store"][2].split(",")
    assert run("ls -A /gnu/store | grep '^[.]p'") == ""
    first, second = generations()
    assert (first["current"], second["current"]) == (False, True)
    assert second["under"] == [first["volume"]]
    again = deploy(edition="two", teller="two", below="two", newcomer="yes")
    assert "live unchanged" in again.out, again.err


def test_what_has_gone_is_unloaded_and_the_rest_is_left_alone() -> None:
    guest.write("/run/teller", "kept")
    changed = deploy(edition="three", teller="two", below="two")
    assert changed.status == 0, changed.err
    # The code of what switches came with the first change.
    sent = re.search(r"([0-9.]+)K sent", changed.err)
    assert sent is not None, changed.err
    assert float(sent[1]) < 200
    assert guest.content("/etc/edition") == "three"
    assert guest.content("/run/teller") == "kept"
    assert "newcomer" not in run("herd status")


def test_a_change_that_is_killed_in_the_guest_is_mended_by_the_next() -> None:
    run("rm -f /run/pyguixvm.lock")
    begun = subprocess.Popen(
        ["pyguixvm", "deploy", CONFIG, "--strategy", "live"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment(edition="four", teller="four")},
    )
    # That is what the guest does first of all.
    eventually(lambda: there("/run/pyguixvm.lock"))
    assert begun.poll() is None
    begun.send_signal(signal.SIGKILL)
    assert begun.wait() == -signal.SIGKILL
    status = pyguixvm("status", CONFIG, **environment(edition="four", teller="four"))
    assert "deployed" not in status.out
    mended = deploy(edition="four", teller="four")
    assert mended.status == 0, mended.err
    assert guest.content("/etc/edition") == "four"
    assert guest.content("/run/teller") == "four"
    # The first went on while the second waited for it.
    assert run("ls -A /gnu/store | grep '^[.]p'") == ""


# What a boot alone changes is in it.
BOOTED_BY = {"edition": "four", "teller": "four", "arguments": "nosmt declared=yes"}


def test_what_only_a_boot_changes_is_booted_by_kexec() -> None:
    boot, process = guest.booted(), virsh("domid", NAME)
    guest.write("/root/kept", "before")
    pending = deploy("--no-restart", **{**BOOTED_BY, "arguments": "nosmt"})
    assert pending.status == 0, pending.err
    assert "pending until its restart" in pending.err
    assert guest.content("/sys/kernel/kexec_loaded").strip() == "1"
    assert guest.booted() == boot
    # What was loaded for another system is not booted.
    changed = deploy(**BOOTED_BY)
    assert changed.status == 0, changed.err
    assert "by kexec" in changed.err
    assert guest.booted() != boot
    # Its domain saw nothing of it.
    assert virsh("domid", NAME) == process
    assert BOOTED_BY["arguments"] in guest.content("/proc/cmdline")
    assert guest.content("/root/kept") == "before"
    assert run("readlink /run/booted-system") == run("readlink /run/current-system")
    status = pyguixvm("status", CONFIG, **environment(**BOOTED_BY))
    assert "deployed" in status.out


def test_a_boot_comes_up_the_same() -> None:
    boot = guest.booted()
    assert pyguixvm("shutdown", NAME).status == 0
    started = pyguixvm("start", NAME)
    assert started.status == 0, started.err
    assert "192.168.122." in started.out
    assert guest.booted() != boot
    assert BOOTED_BY["arguments"] in guest.content("/proc/cmdline")
    assert guest.content("/etc/edition") == "four"
    assert told() == ("four", "one", "one")
    status = pyguixvm("status", CONFIG, **environment(**BOOTED_BY))
    assert "deployed" in status.out


def test_the_hypervisor_takes_it_back_as_it_was() -> None:
    back = pyguixvm("rollback", NAME, "1")
    assert back.status == 0, back.err
    assert guest.content("/etc/edition") == "one"


def test_what_is_large_comes_to_a_guest_that_was_given_nothing_live() -> None:
    # What it is given stands on what it was made of.
    changed = deploy(edition="five", megabytes="50")
    assert changed.status == 0, changed.err
    assert guest.content("/etc/edition") == "five"
    assert "50" in changed.err
    assert run("wc -c < /etc/large").strip() == str(50 * 1024**2)
    assert ".parcel" not in virsh("dumpxml", NAME)


def test_each_save_that_is_watched_arrives_without_a_boot(tmp_path: Path) -> None:
    boot, config = guest.booted(), tmp_path / "live.scm"
    # What the guest lost of its store comes again, with the first.
    lost = run("readlink -f /gnu/store/*-shepherd-above.go | head -n 1").strip()
    assert lost.endswith("-shepherd-above.go")
    run(f"unshare -m sh -c 'mount -o remount,rw,bind /gnu/store; rm {lost}'")
    assert not there(lost)

    def save(edition: str) -> None:
        text = CONFIG.read_text()
        config.write_text(text.replace('(setting "EDITION" "one")', f'"{edition}"'))

    save("save 0")
    with subprocess.Popen(
        ["pyguixvm", "watch", "--force", "--stop-timeout", "5", config],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as watching:
        try:
            eventually(partial(edition_is, "save 0"), 300)
            eventually(partial(there, lost))
            # The first save may begin a window of its own.
            before = len(generations())
            for number in range(1, 4):
                save(f"save {number}")
                eventually(partial(edition_is, f"save {number}"))
            assert guest.booted() == boot
            assert len(generations()) == before
            # Without an agent, it is as it was without all this: a fresh root, and a boot.  Nor
            # does such a guest shut down.
            herd = "/run/current-system/profile/bin/herd"
            guest.agent("guest-exec", path=herd, arg=["stop", "qemu-guest-agent"])
            eventually(lambda: "state='disconnected'" in virsh("dumpxml", NAME))
            save("save 5")
            eventually(lambda: len(generations()) == before + 1, 300)
            # Begun, it is finished.
            watching.send_signal(signal.SIGINT)
            told, _ = watching.communicate(timeout=600)
        finally:
            watching.kill()
    assert "its guest has no agent that runs programs" in told
    assert "by ssh with a host key that is known; it gets a new root" in told
    assert pyguixvm("deploy", config).status == 0
    assert guest.booted() != boot
    assert guest.content("/etc/edition") == "save 5"
    assert generations()[-1]["under"] == []

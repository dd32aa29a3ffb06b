# SPDX-License-Identifier: GPL-3.0-or-later
"""A machine runs from the store of its host: no image is made of its system."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest import Guest
from running import CONFIGS, Ran, collected, command, gc_roots, pyguixvm, virsh

WAY = ("--strategy", "shared-store")
guest = Guest("shared")
FORMER = Path.home() / ".local/state/pyguixvm/gc-roots/qemu%3A%2F%2F%2Fsystem/shared"
# Nothing else in the store stands on what is called so.
TWO = f"two {time.time_ns()}"


@pytest.fixture(scope="module", autouse=True)
def config(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Deploy the machine that the tests change, one after the other; it goes at the end."""
    file = tmp_path_factory.mktemp("shared") / "config.scm"
    file.write_text((CONFIGS / "shared-store.scm").read_text())
    pyguixvm("undefine", "--yes", "--delete-data", "shared")
    first = pyguixvm("deploy", file, *WAY)
    assert first.status == 0, first.err
    assert "disk-image" not in first.err
    links = gc_roots("shared")
    yield file
    removed = pyguixvm("undefine", "--yes", "--delete-data", "shared")
    assert removed.status == 0, removed.err
    assert not links.exists()


def edit(config: Path, old: str, new: str) -> None:
    text = config.read_text()
    assert f'(define edition "{old}")' in text
    config.write_text(text.replace(f'(define edition "{old}")', f'(define edition "{new}")'))


def plan(config: Path, *arguments: str) -> dict[str, Any]:
    planned = pyguixvm("plan", config, "--json", *arguments)
    assert planned.status == 0, planned.err
    machine: dict[str, Any] = planned.json["plans"][0]["machines"][0]
    return machine


def generations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyguixvm("generations", "shared", "--json").json["generations"]
    return found


def test_it_has_all_that_it_declares() -> None:
    assert guest.content("/etc/edition") == "one"
    mounts = guest.mounts()
    assert mounts["/"][:2] == ["/dev/vda", "ext4"]
    assert mounts["/srv/db"][1] == "ext4"
    assert mounts["/var/lib/notes"][0] == mounts["/var/lib/pyguixvm"][0]
    arguments = guest.content("/proc/cmdline").split()
    assert {"console=ttyS0", "declared=yes"} < set(arguments)
    guest.write("/srv/db/row", "one")
    guest.write("/var/lib/notes/note", "kept")
    guest.write("/root/scratch", "lost")


def test_its_store_is_the_hosts_and_cannot_be_written() -> None:
    tag, kind, options = guest.mounts()["/gnu/store"]
    assert (tag, kind) == ("pyguixvm-store", "9p")
    assert "ro" in options.split(",")
    # No guest has derivations of its own.
    derivation = next(Path("/gnu/store").glob("*-system.drv"))
    assert guest.content(str(derivation), 200) == derivation.read_text()[:200]
    with pytest.raises(AssertionError, match="Read-only file system"):
        guest.write("/gnu/store/new", "no")
    assert not Path("/gnu/store/new").exists()
    # What nobody can build there, nobody signs, although its system is declared to.
    with pytest.raises(AssertionError, match="No such file"):
        guest.content("/etc/guix/signing-key.sec")


def test_what_it_runs_is_kept_from_garbage_collection() -> None:
    (generation,) = generations()
    assert generation["image"].endswith("-system")
    assert (gc_roots("shared") / "1").readlink() == Path(generation["image"])
    assert not collected(generation["image"])


def test_what_was_kept_by_name_in_a_home_directory_is_kept_where_guix_looks(config: Path) -> None:
    (generation,) = generations()
    link, former = gc_roots("shared") / "1", FORMER / "1"
    former.parent.mkdir(parents=True, exist_ok=True)
    former.symlink_to(generation["image"])
    # What was made a moment ago may be for what was not seen yet; this was not.
    command("touch", "--no-dereference", "--date=yesterday", former)
    link.unlink()
    for title, left in (('(title "one")', {"1"}), ("", set())):
        text = config.read_text()
        config.write_text(text.replace("(cpu 1)", f"(cpu 1) {title}"))
        deployed = pyguixvm("deploy", config, *WAY)
        config.write_text(text)
        assert deployed.status == 0, deployed.err
        assert link.readlink() == Path(generation["image"])
        # The one before goes once the other one is there when somebody looks.
        assert {each.name for each in FORMER.glob("*")} == left


def test_what_was_kept_for_a_machine_that_is_gone_goes() -> None:
    (generation,) = generations()
    spent = FORMER.with_name("gone") / "1"
    spent.parent.mkdir(parents=True, exist_ok=True)
    # A run that was broken off may have left it.
    spent.unlink(missing_ok=True)
    spent.symlink_to(generation["image"])
    # Whose it is that was made while machines were looked at may not be known yet; here, that
    # takes as long as it takes.
    command("touch", "--no-dereference", "--date=1 minute", spent)
    assert pyguixvm("gc", "--yes").status == 0
    assert spent.is_symlink()
    command("touch", "--no-dereference", "--date=yesterday", spent)
    assert pyguixvm("gc", "--dry-run").status == 0
    assert spent.is_symlink()
    assert pyguixvm("gc", "--yes").status == 0
    assert not spent.parent.exists()


def test_status_and_plan_say_where_it_runs_from(config: Path) -> None:
    assert plan(config, *WAY)["actions"] == []
    for machine in (
        pyguixvm("status", config, "--json").json["machines"][0],
        pyguixvm("status", "shared", "--json").json["machines"][0],
    ):
        # Beside much else that runs here, its loopback interface now and then is not set up.
        failed = (machine["inside"] or {}).get("failed") or []
        assert set(failed) <= {"loopback"}
        troubles = [f"service {service} failed" for service in failed]
        assert machine["detail"] == ", ".join([*troubles, "runs from the shared store of its host"])
        # Its agent may say nothing for a while yet; its console has said it.
        assert machine["guest"]["verdict"] in {"as deployed", "booted as deployed"}
        assert machine["guest"]["booted"] == 1
    shown = pyguixvm("plan", config)
    assert "image: none, the shared store of its host -> /gnu/store/" in shown.out
    back = plan(config)
    assert (back["effect"], back["differences"][0]["path"]) == ("replace", "image")
    assert "create-root" in {action["action"] for action in back["actions"]}


def test_an_edited_file_takes_a_boot_and_no_image(config: Path, tmp_path: Path) -> None:
    boot, shown = guest.booted(), tmp_path / "shown"
    with shown.open("wb") as output:
        watch = subprocess.Popen(["pyguixvm", "watch", config, *WAY], stdout=output, stderr=output)
    try:
        wait_for(watch, shown, "shared unchanged")
        edit(config, "one", TWO)
        wait_for(watch, shown, "shared updated")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 130
    finally:
        watch.kill()
        watch.wait()
    assert "disk-image" not in shown.read_text()
    assert guest.booted() != boot
    assert guest.content("/etc/edition") == TWO
    assert guest.content("/srv/db/row") == "one"
    assert guest.content("/var/lib/notes/note") == "kept"
    with pytest.raises(AssertionError, match="No such file"):
        guest.content("/root/scratch")


def wait_for(watch: subprocess.Popen[bytes], shown: Path, words: str) -> None:
    deadline = time.monotonic() + 300
    while words not in shown.read_text():
        assert watch.poll() is None, shown.read_text()
        assert time.monotonic() < deadline, shown.read_text()
        time.sleep(0.1)


def test_it_can_be_taken_back() -> None:
    taken_back: Ran = pyguixvm("rollback", "shared")
    assert taken_back.status == 0, taken_back.err
    assert guest.content("/etc/edition") == "one"
    assert guest.content("/root/scratch") == "lost"
    assert guest.content("/var/lib/notes/note") == "kept"
    first, second = generations()
    assert (gc_roots("shared") / "2").readlink() == Path(second["image"])
    assert not collected(second["image"])
    ran = pyguixvm("gc", "--yes", "--keep", "0", "--json")
    assert ran.status == 0, ran.err
    assert [generation["number"] for generation in generations()] == [1]
    assert "pyguixvm-shared.g2.qcow2" not in virsh("vol-list", "default")
    assert [each.name for each in gc_roots("shared").iterdir()] == ["1"]
    assert not collected(first["image"])
    assert collected(second["image"])


def test_what_it_cannot_do_is_refused(config: Path) -> None:
    text = config.read_text()
    config.write_text(
        text.replace("(autostart? #f)", "(autostart? #f) (firmware 'uefi)").replace(
            "(bootloader grub-bootloader)", "(bootloader grub-efi-bootloader)"
        )
    )
    boot = guest.booted()
    for verb in ("plan", "deploy"):
        refused = pyguixvm(verb, config, *WAY)
        assert refused.status == 1
        assert "'shared' cannot run from the shared store" in refused.out + refused.err
        assert "(firmware 'uefi)" in refused.out + refused.err
    assert guest.booted() == boot
    config.write_text(text)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Data outlives the system: disks, directories of the host, ssh host keys."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest import Guest, eventually
from running import CONFIGS, Ran, command, pyguixvm, virsh

CONFIG = CONFIGS / "storage.scm"
MIB = 1024**2
DUID = "/var/db/dhcpcd/duid"
MAC = "52:54:00:ab:cd:05"
HOST_KEY = "/etc/ssh/ssh_host_ed25519_key.pub"
VOLUMES = ("pyguixvm-storage.db.qcow2", "pyguixvm-storage.state.qcow2")

guest = Guest("storage")


@pytest.fixture(scope="module", autouse=True)
def shares() -> Iterator[dict[str, str]]:
    """Deploy the machine that the tests change, with two directories of the host's."""
    # Not in pytest's own directory, which QEMU's user may not enter.
    directory = Path(tempfile.mkdtemp(prefix="pyguixvm-test-"))
    directory.chmod(0o755)
    environment = {}
    for name in ("written", "shared"):
        (directory / name).mkdir(parents=True)
        (directory / name).chmod(0o777)
        environment[f"PYGUIXVM_TEST_{name.upper()}"] = str(directory / name)
    (directory / "shared" / "greeting").write_text("hello")
    pyguixvm("undefine", "--yes", "--delete-data", "storage")
    settled.update(environment)
    first = deploy()
    assert first.status == 0, first.err
    yield environment
    pyguixvm("undefine", "--yes", "--delete-data", "storage")
    shutil.rmtree(directory)


settled: dict[str, str] = {}


def settings(**changes: str) -> dict[str, str]:
    return settled | {f"PYGUIXVM_TEST_{name.upper()}": value for name, value in changes.items()}


def deploy(*arguments: str, **changes: str) -> Ran:
    return pyguixvm("deploy", CONFIG, *arguments, **settings(**changes))


def plan(**changes: str) -> dict[str, Any]:
    planned = pyguixvm("plan", CONFIG, "--json", **settings(**changes))
    assert planned.status == 0, planned.err
    machine: dict[str, Any] = planned.json["plans"][0]["machines"][0]
    return machine


def size_of(directory: str) -> int:
    """Return the size (bytes) of the file system that the guest has at DIRECTORY."""
    found = {each["mountpoint"]: each for each in guest.agent("guest-get-fsinfo")}
    return int(found[directory]["total-bytes"])


def volume_path(disk: str) -> str:
    return virsh("vol-path", f"pyguixvm-storage.{disk}.qcow2", "default")


def disks() -> set[str]:
    """Return the guest's disks."""
    rows = (line.split() for line in guest.content("/proc/partitions").splitlines()[2:])
    return {fields[3] for fields in rows if fields[3].startswith("vd")}  # vda has two partitions


def test_disks_and_directories_are_mounted(shares: dict[str, str]) -> None:
    mounts = guest.mounts()
    assert mounts["/srv/db"][1] == "ext4"
    assert mounts["/shared"][:2] == ["shared", "virtiofs"]
    assert mounts["/read"][1] == "9p"
    assert "ro" in mounts["/read"][2].split(",")
    assert mounts["/etc/ssh"][0] == mounts["/var/lib/pyguixvm"][0]


def test_directories_are_the_hosts(shares: dict[str, str]) -> None:
    assert guest.content("/shared/greeting") == "hello"
    assert guest.content("/read/greeting") == "hello"
    guest.write("/written/answer", "hello host")
    written = Path(shares["PYGUIXVM_TEST_WRITTEN"]) / "answer"
    assert written.read_text() == "hello host"


def test_what_was_deployed_stays_as_it_is() -> None:
    assert plan()["actions"] == []
    assert plan()["differences"] == []


def test_a_data_disk_grows_in_the_running_guest() -> None:
    guest.write("/srv/db/row", "one")
    before, boot = size_of("/srv/db"), guest.booted()
    (difference,) = plan(size="2G")["differences"]
    assert (difference["path"], difference["effect"]) == ("domain.disks.db.size", "live")
    grown = deploy(size="2G")
    assert grown.status == 0, grown.err
    assert "1G -> 2G" in grown.err
    assert size_of("/srv/db") - before > 900 * MIB
    assert guest.booted() == boot
    assert guest.content("/srv/db/row") == "one"
    assert plan(size="2G")["actions"] == []


def test_a_data_disk_never_shrinks() -> None:
    refused = deploy(size="1G")
    assert refused.status == 1
    assert "has 2G and is declared with 1G" in refused.err
    assert "(size 2G)" in refused.err


def test_disks_come_and_go_in_the_running_guest() -> None:
    before, boot = disks(), guest.booted()
    came = deploy(size="2G", more="a b c")
    assert came.status == 0, came.err
    eventually(lambda: len(disks() - before) == 3)
    assert plan(size="2G", more="a b c")["actions"] == []
    went = deploy(size="2G", more="b")
    assert went.status == 0, went.err
    eventually(lambda: len(disks() - before) == 1)
    assert "pyguixvm-storage.a.qcow2" in virsh("vol-list", "default")
    assert guest.booted() == boot
    assert deploy(size="2G").status == 0
    eventually(lambda: disks() == before)


@pytest.fixture
def device(shares: dict[str, str]) -> Iterator[str]:
    """Yield a disk of the host's, by a name that stays."""
    file = Path(shares["PYGUIXVM_TEST_SHARED"]) / "disk.img"
    with file.open("wb") as image:
        image.write(b"the host's own")
        image.truncate(64 * MIB)
    loop = command("losetup", "--find", "--show", file).out.strip()
    name = Path(f"/dev/pyguixvm-test-{os.getpid()}")
    name.symlink_to(loop)
    yield str(name)
    name.unlink()
    command("losetup", "--detach", loop)


def test_a_disk_of_the_hosts_is_passed_through(device: str) -> None:
    before, boot = disks(), guest.booted()
    came = deploy(size="2G", devices=device)
    assert came.status == 0, came.err
    eventually(lambda: len(disks() - before) == 1)
    (seen,) = disks() - before
    assert guest.content(f"/dev/{seen}", 14) == "the host's own"
    assert plan(size="2G", devices=device)["actions"] == []
    assert deploy(size="2G").status == 0
    eventually(lambda: disks() == before)
    assert guest.booted() == boot
    assert Path(device).exists()


def test_a_detached_disk_is_put_back() -> None:
    assert deploy(size="2G", more="a").status == 0
    eventually(lambda: len(disks()) == 6)
    boot = guest.booted()
    virsh("detach-disk", "storage", volume_path("a"), "--persistent")
    assert [d["path"] for d in plan(size="2G", more="a")["differences"]] == ["domain.disks.a"]
    assert deploy(size="2G", more="a").status == 0
    eventually(lambda: len(disks()) == 6)
    assert deploy(size="2G").status == 0
    assert guest.booted() == boot


def leases() -> set[tuple[str, str]]:
    """Return address and client of each lease that the network gave the guest's interface."""
    rows = (line.split() for line in virsh("net-dhcp-leases", "default", MAC).splitlines())
    return {(row[4], row[-1]) for row in rows if MAC in row}


def test_a_removed_machine_leaves_its_data_and_another_system_finds_it() -> None:
    """As one does that takes the place of another, in ``test_shared_store``."""
    eventually(lambda: bool(leases()))
    key, boot, known = guest.content(HOST_KEY), guest.booted(), (guest.content(DUID), leases())
    # It is powered off.
    guest.sync()
    removed = pyguixvm("undefine", "--yes", "storage")
    assert removed.status == 0, removed.err
    assert "pyguixvm-storage.db.qcow2" in removed.out
    assert "--delete-data" in removed.out
    there = virsh("vol-list", "default")
    assert all(volume in there for volume in VOLUMES)
    assert "pyguixvm-storage.g" not in there
    again = deploy(size="3G", edition="two")
    assert again.status == 0, again.err
    assert guest.booted() != boot
    assert guest.content("/etc/edition") == "two"
    assert guest.content("/srv/db/row") == "one"
    assert guest.content(HOST_KEY) == key
    # To who gives it its address, it is the one that it was.
    assert (guest.content(DUID), leases()) == known
    # Nobody was there to grow it while it was offline but the guest's own service.
    assert size_of("/srv/db") > 2500 * MIB


def test_data_goes_only_when_asked() -> None:
    removed = pyguixvm("undefine", "--yes", "--delete-data", "storage")
    assert removed.status == 0, removed.err
    # What only an earlier machine of that name had is nobody's to delete: it is told.
    listed = (line.split()[0] for line in virsh("vol-list", "default").splitlines())
    left = [volume for volume in listed if volume.startswith("pyguixvm-storage.")]
    assert not set(left) & set(VOLUMES)
    assert all(f"{volume} in pool default" in removed.out for volume in left)

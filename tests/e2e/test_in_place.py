# SPDX-License-Identifier: GPL-3.0-or-later
"""Another operating system in a guest that runs, and the way back."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from guest import Guest, eventually
from running import CONFIGS, Ran, command, gc_roots, pyguixvm, virsh
from sshd import sshd

from pyguixvm.commands.guest_ssh import ssh_options
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor.guest import over_ssh
from pyguixvm.hypervisor.guest.over_ssh import inside_over_ssh

CONFIG = CONFIGS / "in-place.scm"
NAME = "in-place"
guest = Guest(NAME)
KEY = "/etc/ssh/ssh_host_ed25519_key.pub"


@pytest.fixture(scope="module")
def login(tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, str]]:
    """Yield the environment of a person whose agent holds the key that the guest lets in."""
    directory = tmp_path_factory.mktemp("ssh")
    key = directory / "key"
    made = command("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", key)
    assert made.status == 0, made.err
    socket = directory / "agent"
    agent = subprocess.Popen(["ssh-agent", "-D", "-a", str(socket)], stdout=subprocess.DEVNULL)
    environment = {"SSH_AUTH_SOCK": str(socket), "PYGUIXVM_TEST_KEY": str(key) + ".pub"}
    try:
        while not socket.exists():
            assert agent.poll() is None
        added = command("ssh-add", key, **environment)
        assert added.status == 0, added.err
        yield environment
    finally:
        agent.terminate()
        agent.wait()


@pytest.fixture(scope="module", autouse=True)
def deployed(login: dict[str, str]) -> Iterator[None]:
    """Deploy the machine with a key that signs what it is sent, as a host of Guix's has it."""
    if not Path("/var/lib/pyguixvm-testbed/chroot/etc/guix/signing-key.pub").exists():
        made = command("guix", "archive", "--generate-key")
        assert made.status == 0, made.err
    pyguixvm("undefine", "--yes", NAME)
    first = pyguixvm("deploy", CONFIG, "--strategy", "in-place", **login)
    assert first.status == 0, first.err
    yield
    pyguixvm("undefine", "--yes", NAME)


def generations() -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = pyguixvm("generations", NAME, "--json").json["generations"]
    return found


def deploy(login: dict[str, str], *options: str, **changes: str) -> Ran:
    changed = {f"PYGUIXVM_TEST_{name.upper()}": value for name, value in changes.items()}
    return pyguixvm("deploy", CONFIG, "--strategy", "in-place", *options, **login, **changed)


def test_ssh_and_scp_find_the_guest_and_take_no_other_for_it(
    login: dict[str, str], tmp_path: Path
) -> None:
    said = pyguixvm("ssh", f"root@{NAME}", "--", "cat", "/etc/edition; exit 3", **login)
    assert (said.status, said.out) == (3, "one"), said.err
    (tmp_path / "sent").write_text("over there")
    for files in ((tmp_path / "sent", f"root@{NAME}:/root/"), (f"root@{NAME}:/root/sent", "back")):
        copied = pyguixvm("cp", *map(str, files), directory=tmp_path, **login)
        assert copied.status == 0, copied.err
    assert (tmp_path / "back").read_text() == "over there"
    # What pretends to be it has another key.
    assert guest.content(KEY).split()[1] in " ".join(
        ssh_options(Session("qemu:///system", (), {}, ignore, print), NAME)
    )


def test_a_guest_is_reached_through_its_hypervisor(login: dict[str, str], tmp_path: Path) -> None:
    with sshd(tmp_path, 2299, AuthorizedKeysFile=login["PYGUIXVM_TEST_KEY"]) as server:
        client = server.client("agent")
        client.write_text(
            client.read_text().replace(f"-i {tmp_path}/user -o IdentitiesOnly=yes", "")
        )
        uri = server.uri(command=client)
        said = pyguixvm("-c", uri, "ssh", f"root@{NAME}", "--", "echo $SSH_CONNECTION", **login)
        assert said.status == 0, said.err
        assert (tmp_path / "log-2299").read_text().count("Accepted publickey for root") == 2


def test_a_saved_system_arrives_in_the_guest_while_it_runs(
    login: dict[str, str], tmp_path: Path
) -> None:
    config, shown = tmp_path / "config.scm", tmp_path / "shown"
    declared = CONFIG.read_text()
    config.write_text(declared)
    boot, key = guest.booted(), guest.content(KEY)
    guest.write("/root/kept", "before")
    with shown.open("wb") as output:
        watch = subprocess.Popen(
            ["pyguixvm", "watch", config, "--strategy", "in-place", "--no-restart"],
            stdout=output,
            stderr=output,
            env={**os.environ, **login},
        )
    try:
        wait_for(watch, shown, "in-place unchanged")
        two = declared.replace('"EDITION" "one"', '"EDITION" "two"')
        two = two.replace('"ARGUMENTS" ""', '"ARGUMENTS" "nosmt"')
        config.write_text(two.replace('"MEMORY" "640M"', '"MEMORY" "768M"'))
        wait_for(watch, shown, "in-place updated")
        watch.send_signal(signal.SIGINT)
        assert watch.wait(timeout=20) == 130
    finally:
        watch.kill()
        watch.wait()
    assert guest.content("/etc/edition") == "two"
    assert guest.content("/root/kept") == "before"
    assert (guest.booted(), guest.content(KEY)) == (boot, key)
    # It boots by other arguments then, and its kernel has what it would boot.
    assert "pending until its restart" in shown.read_text()
    assert guest.content("/sys/kernel/kexec_loaded").strip() == "1"
    first, second = generations()
    assert (first["current"], second["current"]) == (False, True)
    assert second["under"] == [first["volume"]]
    assert second["volume"] in virsh("domblklist", NAME)
    # Each keeps from Guix's garbage collector what it stands on.
    links = [gc_roots(NAME) / number for number in ("1", "2")]
    assert {link.readlink() for link in links} == {Path(first["image"])}


def wait_for(watch: subprocess.Popen[bytes], shown: Path, words: str) -> None:
    deadline = time.monotonic() + 600
    while words not in shown.read_text():
        assert watch.poll() is None, shown.read_text()
        assert time.monotonic() < deadline, shown.read_text()
        time.sleep(0.1)


def test_what_its_kernel_does_not_take_is_booted_by_its_hypervisor(login: dict[str, str]) -> None:
    """And not by kexec what it took before, for another system."""
    # That which it has may go, and no other comes.
    guest.write("/proc/sys/kernel/kexec_load_limit_reboot", "1")
    boot, process = guest.booted(), virsh("domid", NAME)
    declared = {"edition": "three", "arguments": "nosmt declared=yes"}
    changed = deploy(login, **declared)
    assert changed.status == 0, changed.err
    assert "by kexec" not in changed.err
    assert guest.booted() != boot
    assert virsh("domid", NAME) != process
    assert "nosmt declared=yes" in guest.content("/proc/cmdline")
    assert guest.content("/etc/edition") == "three"
    again = deploy(login, **declared)
    assert "in-place unchanged" in again.out, again.err


def test_the_hypervisor_takes_it_back_as_it_was(login: dict[str, str]) -> None:
    """What the guest kept before the change is there; what it has kept since is not."""
    guest.write("/root/kept", "after")
    back = pyguixvm("rollback", NAME, "1", **login)
    assert back.status == 0, back.err
    assert guest.content("/etc/edition") == "one"
    assert guest.content("/root/kept") == "before"
    # Whom sshd lets in comes from the system, though its directory outlives the root.
    assert guest.content("/etc/ssh/authorized_keys.d/root").split() == (
        Path(login["PYGUIXVM_TEST_KEY"]).read_text().split()
    )


def test_a_system_that_would_not_trust_this_machine_again_is_refused(
    login: dict[str, str],
) -> None:
    refused = deploy(login, edition="four", distrust="yes")
    assert refused.status == 4
    assert "would not trust the signing key" in refused.err
    assert "authorized-keys" in refused.err
    # Nothing was touched: there is no generation for it.
    assert len(generations()) == 3


def test_whom_the_guest_does_not_let_in_is_told_what_to_do(login: dict[str, str]) -> None:
    stranger = {**login, "SSH_AUTH_SOCK": "/nonexistent", "HOME": "/nonexistent"}
    refused = deploy(stranger, edition="four")
    assert refused.status == 4
    assert "SSH authentication failed" in refused.err
    assert "authorized-keys" in refused.err
    assert len(generations()) == 3


def run(*words: str) -> None:
    """Run WORDS in the guest by its agent, to the end."""
    program = f"/run/current-system/profile/bin/{words[0]}"
    begun = guest.agent("guest-exec", path=program, arg=list(words[1:]))
    eventually(lambda: guest.agent("guest-exec-status", pid=begun["pid"])["exited"])


def test_a_guest_without_an_agent_is_asked_over_ssh_if_it_is_known(
    login: dict[str, str], tmp_path: Path
) -> None:
    (found,) = pyguixvm("status", "--json", NAME).json["machines"]
    (address, *_) = found["addresses"]
    (tmp_path / ".ssh").mkdir()
    known_hosts = tmp_path / ".ssh/known_hosts"
    person = {**login, "HOME": str(tmp_path)}

    def seen() -> dict[str, Any]:
        (machine,) = pyguixvm("status", "--json", NAME, **person).json["machines"]
        return dict(machine)

    key = " ".join(guest.content(KEY).split()[:2])
    # It cannot tell that it has ended.
    herd = "/run/current-system/profile/bin/herd"
    guest.agent("guest-exec", path=herd, arg=["stop", "qemu-guest-agent"])
    eventually(lambda: "state='connected'" not in virsh("dumpxml", NAME))
    try:
        # Whose key nobody knows is not even asked, whatever it wrote on its console before.
        unknown = seen()
        assert (unknown["inside"], unknown["guest"]["generation"]) == (None, None)
        known_hosts.write_text(f"{address} {key}\n")
        known = seen()
        assert known["inside"]["by"] == "ssh"
        assert (known["guest"], known["status"]) == (found["guest"], found["status"])
        for field in ("booted", "running", "failed"):
            assert known["inside"][field] == found["inside"][field]
        assert abs(known["inside"]["clock"]) < 30
        assert "/" in {each["target"] for each in known["inside"]["file-systems"]}
        hashed = command("ssh-keygen", "-q", "-H", "-f", known_hosts)
        assert hashed.status == 0, hashed.err
        assert seen()["inside"]["by"] == "ssh"
        # Nor is one believed that is another domain's guest, or has another key.
        elsewhere = "a" * 8 + known["uuid"][8:]
        assert inside_over_ssh([address], elsewhere, known_hosts) is None
        other = Path(login["PYGUIXVM_TEST_KEY"]).read_text()
        known_hosts.write_text(f"{address} {other}")
        assert seen()["inside"] is None
        # What changes it live goes that way, too, and no other.
        live = ("deploy", CONFIG, "--strategy", "live")
        changes = {"PYGUIXVM_TEST_EDITION": "by ssh", "PYGUIXVM_TEST_MEMORY": "640M"}
        refused = pyguixvm(*live, **person, **changes)
        assert refused.status == 1, refused.err
        assert "does not let root in by ssh with a host key that is known" in refused.err
        known_hosts.write_text(f"{NAME}-{known['uuid']} {key}\n")
        changed = pyguixvm(*live, **person, **changes)
        assert changed.status == 0, changed.err
        assert f"to be sent by ssh at {address}" in changed.err
        alias = f"{NAME}-{known['uuid']}"
        by_ssh = over_ssh.login([address], known_hosts, alias, connect=60)
        assert by_ssh is not None
        said = command(*by_ssh, "cat /etc/edition", **login)
        assert said.out == "by ssh", said.err
    finally:
        known_hosts.write_text(f"{address} {key}\n")
        started = command(
            "ssh", "-o", f"UserKnownHostsFile={known_hosts}", f"root@{address}",
            herd, "start", "qemu-guest-agent", **login,
        )  # fmt: skip
        assert started.status == 0, started.err
    eventually(lambda: "state='connected'" in virsh("dumpxml", NAME))


def test_a_change_that_fails_before_anything_is_activated_leaves_the_guest_running(
    login: dict[str, str],
) -> None:
    boot, before = guest.booted(), guest.content("/etc/edition")
    sizes = "4G 1G 256M 64M 16M 4M 1M 256K 64K 16K 4K 1K"
    run(
        "sh", "-c",
        f"cd /root; PATH=/run/current-system/profile/bin; "
        f"for s in {sizes}; do while fallocate -l $s full-$s-$((n=n+1)); do :; done; done",
    )  # fmt: skip
    # There is no room for a new system.
    failed = deploy(login, edition="four")
    run("sh", "-c", "/run/current-system/profile/bin/rm -f /root/full-*")
    assert failed.status == 4, failed.err
    assert all(len(line) < 500 for line in failed.err.splitlines()), failed.err
    assert guest.content("/etc/edition") == before
    assert guest.booted() == boot


def test_one_that_takes_itself_for_another_machine_is_left_alone(login: dict[str, str]) -> None:
    """A guest that told another host's address and key would have that changed."""
    boot, before = guest.booted(), [g["number"] for g in generations()]
    uuid = "/sys/class/dmi/id/product_uuid"
    other = "aaaaaaaa-bbbb-4ccc-8ddd-eeeeeeeeeeee"
    run("sh", "-c", f"echo {other} > /run/other && /run/current-system/profile/bin/mount "
        f"--bind /run/other {uuid}")  # fmt: skip
    try:
        refused = deploy(login, edition="four")
    finally:
        run("umount", uuid)
    assert refused.status == 4, refused.err
    assert "is not the guest of that machine" in refused.err
    assert "network of libvirt's" in refused.err
    assert (guest.booted(), [g["number"] for g in generations()]) == (boot, before)


def test_a_guest_whose_guix_is_not_at_work_is_left_alone(login: dict[str, str]) -> None:
    boot, before = guest.booted(), [g["number"] for g in generations()]
    socket = "/var/guix/daemon-socket/socket"
    run("mv", socket, f"{socket}.away")
    refused = deploy(login, edition="four")
    run("mv", f"{socket}.away", socket)
    assert refused.status == 4, refused.err
    assert "the guest has no Guix at work" in refused.err
    assert "guix-service-type" in refused.err
    assert (guest.booted(), [g["number"] for g in generations()]) == (boot, before)

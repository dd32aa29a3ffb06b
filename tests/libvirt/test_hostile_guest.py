# SPDX-License-Identifier: GPL-3.0-or-later
"""A guest whose agent is silent or lies costs its own machine some seconds, and nobody more."""

import base64
import shutil
import threading
import time
from contextlib import contextmanager

import pytest
from deploying import session
from sshd import ADDRESS, sshd

from pyguixvm.apply.wait_ready import wait_ready
from pyguixvm.commands import listing
from pyguixvm.errors import RequestRefusedError
from pyguixvm.hypervisor import dhcp, hotplug, power, snapshot
from pyguixvm.hypervisor.guest import delivery, over_ssh
from pyguixvm.hypervisor.guest.addresses import addresses
from pyguixvm.hypervisor.guest.evidence import watch
from pyguixvm.hypervisor.guest.file_systems import grow_file_systems
from pyguixvm.hypervisor.guest.host_key import ssh_host_key
from pyguixvm.hypervisor.guest.inside import inside
from pyguixvm.model.guest import FileSystem, Inside

MIB = 1024**2


@contextmanager
def at_most(seconds):
    """Fail unless the body ends within SECONDS."""
    begun = time.monotonic()
    yield
    assert time.monotonic() - begun < seconds


def test_an_agent_that_says_nothing_hangs_nobody(connection, hostile, tmp_path):
    machine, agent = hostile
    name = machine.name
    with at_most(10):
        assert addresses(connection, name) == ()
    assert "guest-network-get-interfaces" in agent.asked
    with at_most(10):
        (found,) = listing.listed(session(tmp_path), everything=False)
        assert (found.name, found.state, found.addresses) == (name, "running", ())
    with at_most(10):
        assert ssh_host_key(connection, name) is None
    with at_most(10):
        assert not grow_file_systems(connection, name)
    with at_most(20), watch(connection, machine) as evidence:
        assert not evidence.agent_answers()
        assert evidence.addresses() == ()
        found = wait_ready(machine, evidence, deadline=time.monotonic())
        assert found.outcome == "not-ready"
    with at_most(20):
        assert not hotplug.set_vcpus(connection, name, 1)


@pytest.mark.parametrize(
    ("verb", "refusal"),
    [(power.shutdown, "still runs after 4 s"), (power.reboot, "did not reboot within 4 s")],
)
def test_an_agent_that_says_nothing_delays_a_shutdown_by_no_more_than_was_allowed(
    connection, hostile, verb, refusal
):
    machine, agent = hostile
    with at_most(15), pytest.raises(RequestRefusedError, match=refusal):
        verb(connection, machine.name, timeout=4)
    assert "guest-shutdown" in agent.asked


def test_file_systems_that_do_not_get_quiet_delay_a_change_in_place_for_a_while(
    connection, hostile, run
):
    machine, agent = hostile
    below = snapshot.written_to(connection, machine.name)
    above = f"{below}.above"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-F", "raw", "-b", below, above)
    shutil.chown(above, "libvirt-qemu")
    with at_most(60):
        assert not snapshot.write_to(connection, machine.name, above)
    assert snapshot.written_to(connection, machine.name) == above
    assert "guest-fsfreeze-freeze" in agent.asked


def interface(machine, *found):
    (declared,) = machine.domain.networking
    return {"name": "eth0", "hardware-address": declared.mac_address, "ip-addresses": list(found)}


def address(text, kind="ipv4"):
    return {"ip-address": text, "ip-address-type": kind, "prefix": 24}


def test_who_logs_in_goes_where_the_host_sees_the_guest(connection, hostile, monkeypatch):
    """A guest that told another host's address, and its key, would have that changed."""
    machine, agent = hostile
    agent.returns("guest-network-get-interfaces", [interface(machine, address("192.0.2.7"))])
    assert addresses(connection, machine.name, seen_by_host=True) == ("192.0.2.7",)
    (declared,) = machine.domain.networking
    lease = {(declared.mac_address, "192.0.2.9"): 2**40}
    monkeypatch.setattr(dhcp, "leases", lambda *_: lease)
    assert addresses(connection, machine.name) == ("192.0.2.7",)
    assert addresses(connection, machine.name, seen_by_host=True) == ("192.0.2.9",)


def test_of_addresses_only_such_as_are_some_are_believed(connection, hostile):
    machine, agent = hostile
    good = address("192.0.2.7")
    for bad in (
        address("$(reboot)"),
        address("192.0.2.8; reboot"),
        address("192.0.2.8\n192.0.2.9"),
        # What comes after a percent sign, Python takes for the name of an interface.
        address("2001:db8::1%$(reboot)", "ipv6"),
        address("x" * MIB),
        address("127.0.0.1"),
        address("0.0.0.0"),
        address("255.255.255.255"),
        address("224.0.0.1"),
    ):
        agent.returns("guest-network-get-interfaces", [interface(machine, bad, good)])
        assert addresses(connection, machine.name) == ("192.0.2.7",), bad
    many = [address(f"10.{n >> 8}.{n & 255}.1") for n in range(2000)]
    agent.returns("guest-network-get-interfaces", [interface(machine, *many)])
    assert len(addresses(connection, machine.name)) <= 64
    for wrong in (
        None,
        7,
        "eth0",
        {"a": 1},
        [None],
        [[[[[]]]]],
        [{"name": 7}],
        [{"name": "eth0", "hardware-address": [], "ip-addresses": 7}],
        [interface(machine, {"ip-address": 7, "ip-address-type": "ipv4", "prefix": "x"})],
        [interface(machine, {})],
    ):
        agent.returns("guest-network-get-interfaces", wrong)
        assert addresses(connection, machine.name) == (), wrong
    nested = "[" * 100_000 + "]" * 100_000
    agent.answers["guest-network-get-interfaces"] = f'{{"return": {nested}}}'
    assert addresses(connection, machine.name) == ()


KEY = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAIJ5vD2p0gYdUw7kJgQz6oM5o7V0Yb0m4bEwq3dYk9a1X"


def test_of_host_keys_only_what_is_one_is_believed(connection, hostile):
    machine, agent = hostile
    agent.returns("guest-file-open", 1)
    agent.returns("guest-file-close", {})

    def told(content):
        buffer = content if isinstance(content, str) else base64.b64encode(content).decode()
        agent.returns("guest-file-read", {"buf-b64": buffer, "count": 1, "eof": True})
        return ssh_host_key(connection, machine.name)

    assert told(f"{KEY} root@guest\n".encode()) == KEY
    for bad in (
        b"",
        b"\xff\xfe",
        b"ssh-ed25519",
        f"{KEY}\n* {KEY}".encode(),
        f"@cert-authority * {KEY}".encode(),
        b"ssh-ed25519 $(reboot)",
        b"ssh-ed25519 " + b"A" * MIB,
        "no base64!",
    ):
        assert told(bad) is None, bad[:80]
    for command, wrong in (
        ("guest-file-read", {}),
        ("guest-file-read", {"buf-b64": 7}),
        ("guest-file-read", []),
        ("guest-file-open", "one"),
        ("guest-file-open", {"handle": []}),
        ("guest-file-open", 2**70),
    ):
        agent.returns("guest-file-open", 1)
        agent.returns(command, wrong)
        assert ssh_host_key(connection, machine.name) is None, wrong


def test_of_what_a_program_did_only_what_was_said_is_believed(connection, hostile):
    machine, agent = hostile

    def grown(started, status):
        agent.returns("guest-exec", started)
        agent.returns("guest-exec-status", status)
        with at_most(15):
            return grow_file_systems(connection, machine.name, patience=3)

    assert grown({"pid": 1}, {"exited": True, "exitcode": 0})
    for started, status in (
        ({"pid": 1}, {"exited": True, "exitcode": 1}),
        ({"pid": 1}, {"exited": True}),
        ({"pid": 1}, {"exited": "yes", "exitcode": 0}),
        ({"pid": 1}, {}),
        ({"pid": 1}, None),
        ({"pid": 1}, {"exited": False}),
        ({"pid": "$(reboot)"}, {"exited": True, "exitcode": 0}),
        ({}, {"exited": True, "exitcode": 0}),
        (None, {"exited": True, "exitcode": 0}),
    ):
        assert not grown(started, status), (started, status)


def test_an_agent_that_goes_away_while_it_is_asked_is_none(connection, hostile):
    machine, _ = hostile
    threading.Timer(1, connection.handle.lookupByName(machine.name).destroy).start()
    with at_most(10):
        assert addresses(connection, machine.name) == ()


RUNNING = f"/gnu/store/{'a' * 32}-system"


def said(text):
    """Return how a program ends that wrote TEXT."""
    out = base64.b64encode(text.encode()).decode()
    return {"exited": True, "exitcode": 0, "out-data": out}


def test_of_what_a_guest_says_of_itself_only_what_it_may_be_is_believed(connection, hostile):
    machine, agent = hostile
    domain = connection.handle.lookupByName(machine.name)
    with at_most(10):
        assert inside(domain) is None
    agent.returns("guest-get-time", 5_000_000_000)
    agent.returns("guest-exec", {"pid": 1})
    agent.returns("guest-get-fsinfo", [
        {"mountpoint": "/", "total-bytes": 100, "used-bytes": 50},
        {"mountpoint": "/more", "total-bytes": 100, "used-bytes": 101},
        {"mountpoint": "/none"},
        {"mountpoint": "x" * 9999, "total-bytes": 100, "used-bytes": 50},
    ])  # fmt: skip
    agent.returns("guest-exec-status", said(
        f"booted {RUNNING}\nrunning {RUNNING}\nuptime 12.5\nkernel a a\ninitrd a b\n"
        "services\nfailed nginx\nfailed \x1b[2J\nfailed <b>\n"
    ))  # fmt: skip
    with at_most(10):
        found = inside(domain, clock=lambda: 2.0)
    assert found == Inside(
        booted=RUNNING, running=RUNNING, restart=True, uptime=12.5, clock=3.0, failed=("nginx",),
        file_systems=(FileSystem("/", 100, 50),),
    )  # fmt: skip
    for lie in (
        f"running {RUNNING}/../../etc\nuptime inf\n",
        "running /tmp/x\nuptime -1\nkernel a\n",
        "running\nuptime " + "9" * 9999,
        "\x00\xff" * 999,
        "failed nginx\n" * 9999,
    ):
        agent.returns("guest-exec-status", said(lie))
        agent.returns("guest-get-fsinfo", lie)
        with at_most(10):
            found = inside(domain)
        assert (found.running, found.uptime, found.restart) == (None, None, None)
        assert found.failed is None
        assert found.file_systems is None
    agent.returns("guest-get-time", "now")
    assert inside(domain) is None


@pytest.fixture
def by_ssh(tmp_path, monkeypatch):
    """Return what has a guest behind ssh run a script, and the lines that it told."""
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)
    monkeypatch.setattr(delivery, "_SHELL", "/bin/sh")
    with sshd(tmp_path, 2275) as server:
        login = [str(server.client()), "-p", str(server.port), "--", f"root@{ADDRESS}"]
        told = []

        def ran(script):
            monkeypatch.setattr(delivery, "_SCRIPT", script)
            return delivery.BySsh(login, "").run((), told.append), told

        yield ran


def test_of_what_a_guest_writes_without_end_over_ssh_little_is_kept(by_ssh):
    with at_most(60):
        ran, _ = by_ssh("exec cat /dev/zero")
    # How it ended is not known.
    assert ran is None
    ran, _ = by_ssh("head -c 4000000 /dev/zero; echo done")
    assert (ran.status, len(ran.out)) == (0, 4_000_005)


def test_of_what_a_guest_says_over_ssh_that_is_very_long_a_part_is_told(by_ssh):
    long = "head -c 50000000 /dev/zero | tr '\\0' x; echo; yes $(printf %0999d) | head -c 20000000"
    with at_most(60):
        ran, told = by_ssh(f"{{ echo begins; {long}; echo last words; }} >&2; exit 3")
    assert ran.status == 3
    assert len(ran.err) <= 4096
    assert ran.err.endswith("last words\n")
    assert told[0] == "begins"
    assert max(map(len, told)) == 1000
    assert sum(map(len, told)) <= 4 * MIB


def test_of_what_a_guest_says_of_itself_without_end_over_ssh_little_is_read(tmp_path, monkeypatch):
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)
    monkeypatch.setattr(over_ssh.script, "SHELL", "sh")
    monkeypatch.setattr(over_ssh.script, "SCRIPT", "exec cat /dev/zero\n")
    with sshd(tmp_path, 2277) as server:
        login = [str(server.client()), "-p", str(server.port), "--", f"root@{ADDRESS}"]
        monkeypatch.setattr(over_ssh, "login", lambda *_: login)
        # It ends before the time that a guest has is over, which fills a memory.
        with at_most(10):
            assert over_ssh.inside_over_ssh([ADDRESS], "") is None


def test_a_guest_that_is_too_busy_to_greet_at_once_is_changed_by_ssh(
    connection, hostile, tmp_path, monkeypatch
):
    machine, _agent = hostile
    monkeypatch.setattr(delivery, "_IDENTIFY", "true")
    monkeypatch.setattr(delivery, "_SHELL", "/bin/sh")
    monkeypatch.setattr(delivery.program, "offered", lambda _domain: False)
    monkeypatch.setattr(delivery, "addresses", lambda *_, **_seen: [ADDRESS])
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)
    with sshd(tmp_path, 2276) as server:
        known = server.known_hosts()
        known.write_text(ADDRESS + " " + known.read_text().split(maxsplit=1)[1])

        def login(there, **how):
            program, *words = over_ssh.login(there, known, **how)
            busy = f"sleep 5; exec /usr/sbin/sshd -i -f {tmp_path}/sshd_config-{server.port}"
            key = ["-i", str(tmp_path / "user"), "-o", f"ProxyCommand=sh -c '{busy}'"]
            return [program, "-F", "none", *key, *words]

        monkeypatch.setattr(delivery, "login", login)
        assert delivery.carrier(connection, machine.name) is not None

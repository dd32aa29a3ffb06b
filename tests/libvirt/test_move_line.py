# SPDX-License-Identifier: GPL-3.0-or-later
"""On the line between two hosts: how far a guest has come, and who can read it."""

import os
import signal
import subprocess
from contextlib import suppress

import libvirt
import pytest
from another import another_libvirtd
from boot_sector import halting
from deploying import MIB, deploy, with_image
from travelling import session_at, settled
from waiting import eventually

from pyguixvm.apply import live_migration
from pyguixvm.commands import migrate
from pyguixvm.commands.session import Session
from pyguixvm.errors import HypervisorError
from pyguixvm.events import Notice, PhaseFinished, PhaseProgress, ignore
from pyguixvm.hypervisor import domains, migration
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.migration import Line
from pyguixvm.model.declaration import ConsoleReady

ADDRESSES = ("10.214.0.1", "10.214.0.2")
# One that no certificate is for.
STRANGE = "10.214.0.3"


def test_a_move_tells_how_far_it_is(traveller, line):
    here, there = traveller.connection, traveller.there
    domains.start(here, traveller.name)
    # So that it takes some seconds (16 MiB in each); all that its disks may hold is part of it.
    here.handle.lookupByName(traveller.name).migrateSetMaxSpeed(16)
    told = []
    traveller.move(there, by=line.there, emit=told.append)
    said = [e for e in told if isinstance(e, PhaseProgress) and e.phase == "move"]
    assert said
    assert all(e.machine == traveller.name and 0 <= e.done <= e.total for e in said)
    assert said[-1].total >= 3 * MIB
    assert said[-1].done > said[0].done
    (end,) = [e for e in told if isinstance(e, PhaseFinished) and e.phase == "move"]
    assert "of memory and disks" in end.detail
    domains.destroy(there, traveller.name)


def in_the_clear(told):
    return [e for e in told if isinstance(e, Notice) and e.warning and "in the clear" in e.message]


def test_without_certificates_a_guest_goes_in_the_clear_and_it_is_said(traveller, line):
    here, there = traveller.connection, traveller.there
    domains.start(here, traveller.name)
    with pytest.raises(HypervisorError, match="by TLS") as refused:
        traveller.move(there, by=line.there, encrypted=True)
    assert "/etc/pki/qemu" in refused.value.hint
    assert domains.state(here, traveller.name) == "running"
    told = []
    traveller.move(there, by=line.there, emit=told.append)
    assert len(in_the_clear(told)) == 1
    traveller.require_whole(there)
    domains.destroy(there, traveller.name)


@pytest.fixture(scope="module")
def pki(tmp_path_factory):
    """A directory with what QEMU needs for TLS at both hosts."""
    directory = tmp_path_factory.mktemp("pki")

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes")
    openssl("req", "-x509", *key, "-days", "2", "-subj", "/CN=authority", "-keyout", "ca-key.pem",
            "-out", "ca-cert.pem")  # fmt: skip
    names = ",".join(f"IP:{address}" for address in ADDRESSES)
    for name in ("server", "client"):
        openssl("req", *key, "-subj", f"/CN={name}", "-keyout", f"{name}-key.pem", "-out",
                f"{name}.csr")  # fmt: skip
        extensions = directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName={names}\nextendedKeyUsage={name}Auth\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "ca-cert.pem", "-CAkey", "ca-key.pem",
                "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out",
                f"{name}-cert.pem")  # fmt: skip
    for file in directory.iterdir():
        file.chmod(0o644)
    directory.chmod(0o755)
    return directory


@pytest.fixture
def two_hosts(tmp_path_factory, pki):
    """Connections to two hosts with certificates, and a line between them."""
    qemu = f'migrate_tls_x509_cert_dir = "{pki}"\n'
    with (
        another_libvirtd(tmp_path_factory.mktemp("one"), qemu=qemu) as one,
        another_libvirtd(tmp_path_factory.mktemp("other"), qemu=qemu) as other,
    ):
        first, second = (str(each.process.pid) for each in (one, other))
        subprocess.run(
            ["ip", "link", "add", "pyx", "netns", first, "type", "veth", "peer", "name", "pyx",
             "netns", second],
            check=True,
        )  # fmt: skip
        for process, addresses in ((first, ADDRESSES[:1]), (second, (ADDRESSES[1], STRANGE))):
            inside = ("nsenter", "--target", process, "--net", "--", "ip")
            for address in addresses:
                subprocess.run(
                    [*inside, "address", "add", f"{address}/29", "dev", "pyx"], check=True
                )
            subprocess.run([*inside, "link", "set", "pyx", "up"], check=True)
        with connect(one.uri) as here, connect(other.uri) as there:
            yield here, there


def test_with_certificates_a_guest_goes_by_tls(two_hosts, a_machine, tmp_path):
    here, there = two_hosts
    image = tmp_path / "image.raw"
    image.write_bytes(halting())
    machine = with_image(a_machine(ready=(ConsoleReady("up"),)), image)
    assert deploy(here, machine) is None
    told = []
    leaving = Session(here.uri, (), session_at(here).environment, told.append, ignore)

    def move(address, **line):
        line = Line(f"tcp://{address}", **line)
        migrate.migrate(leaving, (machine.name,), to=there.uri, line=line)

    try:
        # Who is there by another name than its certificate says gets nothing, asked for or not.
        for encrypted in (True, False):
            with pytest.raises(HypervisorError, match=r"[Cc]ertificate|TLS|x509"):
                move(STRANGE, encrypted=encrypted)
            assert domains.state(here, machine.name) == "running"
            assert not domains.exists(there, machine.name)
        move(ADDRESSES[1])
        assert domains.state(there, machine.name) == "running"
        assert not in_the_clear(told)
    finally:
        for where in two_hosts:
            with suppress(libvirt.libvirtError):
                where.handle.lookupByName(machine.name).destroy()


# --- a line that is cut ------------------------------------------------------


def standing_still(told):
    return [e for e in told if isinstance(e, Notice) and "nothing more has arrived" in e.message]


class Cutting:
    """Is told what goes on; cuts the line as soon as something of a disk has arrived.

    As soon as it was said that nothing more does, THEN is called.
    """

    def __init__(self, line, then):
        self.line, self.then = line, then
        self.told = []
        self.cut = False

    def __call__(self, event):
        self.told.append(event)
        if isinstance(event, PhaseProgress) and event.phase == "move" and event.done:
            if not self.cut:
                self.line("down")
            self.cut = True
        if standing_still([event]):
            self.then()


@pytest.fixture
def slowly(traveller, line, monkeypatch):
    """Have it take some seconds to move; what takes the line down, or up."""
    monkeypatch.setattr(live_migration, "STANDSTILL_SECONDS", 5)
    here = traveller.connection
    domains.start(here, traveller.name)
    # MiB in each.
    here.handle.lookupByName(traveller.name).migrateSetMaxSpeed(16)

    def taken(state):
        subprocess.run(["ip", "link", "set", line.name, state], check=True)

    yield taken
    taken("up")
    with suppress(libvirt.libvirtError):
        traveller.there.handle.lookupByName(traveller.name).destroy()


def test_a_guest_goes_on_when_the_line_is_back(traveller, line, slowly):
    emit = Cutting(slowly, lambda: slowly("up"))
    traveller.move(traveller.there, by=line.there, emit=emit)
    assert len(standing_still(emit.told)) == 1
    traveller.require_whole(traveller.there)


def test_who_gives_up_a_line_that_is_cut_leaves_the_guest_where_it_was(
    traveller, line, slowly, monkeypatch
):
    here, there = traveller.connection, traveller.there
    monkeypatch.setattr(migration, "_END_SECONDS", 5)
    emit = Cutting(slowly, lambda: os.kill(os.getpid(), signal.SIGINT))
    with pytest.raises(KeyboardInterrupt):
        traveller.move(there, by=line.there, emit=emit)
    assert domains.state(here, traveller.name) == "running"
    slowly("up")
    settled(traveller)
    # Then libvirt takes away what was to become of it there.
    eventually(lambda: traveller.at() == [here])
    assert domains.state(here, traveller.name) == "running"
    traveller.move(there, by=line.there)
    traveller.require_whole(there)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Hypervisors elsewhere: each way to them, and a sentence for each thing that is in the way.

The ssh servers are the tests' own, on loopback in the bed's network.
"""

import dataclasses
import re
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

import libvirt
import pytest
from another import another_libvirtd
from deploying import session
from sshd import ADDRESS, sshd

from pyguixvm.commands import reach
from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import connect, identity
from pyguixvm.hypervisor.errors import explain

PORT = 2231
# Which runs what it is asked for after something else.
AFTER = '{} /bin/sh -c "$SSH_ORIGINAL_COMMAND"'
NETCAT = """#!/usr/bin/python3
import os, socket, sys, threading
if len(sys.argv) < 3:
    sys.exit("nc: option requires an argument")
there = socket.socket(socket.AF_UNIX)
there.connect(sys.argv[-1])
def pass_on():
    while data := os.read(0, 65536):
        there.sendall(data)
    there.shutdown(socket.SHUT_WR)
threading.Thread(target=pass_on, daemon=True).start()
while data := there.recv(65536):
    os.write(1, data)
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory):
    made = tmp_path_factory.mktemp("ssh")
    for each in (made, *made.parents[:2]):
        each.chmod(0o755)
    return made


@pytest.fixture(scope="module")
def server(directory):
    with sshd(directory, PORT) as running:
        yield running


@pytest.fixture
def behind(directory, server):
    """Start another server, which runs what it is asked for after something else."""
    opened = []

    def start(before):
        opened.append(sshd(directory, PORT + 1 + len(opened), ForceCommand=AFTER.format(before)))
        return opened[-1].__enter__()

    yield start
    for each in opened:
        each.__exit__(None, None, None)


@pytest.fixture
def netcat(tmp_path):
    """What a shell has before a command for which there is a netcat."""
    file = tmp_path / "nc"
    file.write_text(NETCAT)
    file.chmod(0o755)
    return f"PATH={tmp_path}:$PATH"


def leads_here(uri):
    with connect("qemu:///system") as here, connect(uri) as there:
        return identity(there) == identity(here) and not there.local


# --- ways --------------------------------------------------------------------


def test_by_a_command_of_the_users_own(server):
    assert leads_here(server.uri(command=server.client()))


def test_by_a_named_key(directory, server):
    bare = directory / "bare"
    bare.write_text(
        f'#!/bin/sh\nexec ssh -F none -o UserKnownHostsFile={server.known_hosts()} "$@"\n'
    )
    bare.chmod(0o755)
    assert leads_here(server.uri(command=bare, keyfile=directory / "user", no_tty=1))


def test_by_the_helper_on_the_far_side(server):
    assert leads_here(server.uri(command=server.client(), proxy="native"))


def test_by_netcat(netcat, behind):
    far = behind(netcat)
    assert leads_here(far.uri(command=far.client(), proxy="netcat"))


def test_by_another_socket_there(directory, netcat, behind):
    with another_libvirtd(directory / "socket") as other:
        far = behind(netcat)
        uri = far.uri(command=far.client(), socket=other.directory / "run" / "libvirt-sock")
        with connect(uri) as there:
            assert identity(there).host_uuid == other.uuid


@pytest.mark.parametrize("transport", ["libssh", "libssh2"])
def test_by_libraries_for_ssh(directory, server, transport):
    known = server.known_hosts()
    uri = server.uri(
        transport=transport, keyfile=directory / "user", known_hosts=known, sshauth="privkey"
    )
    assert leads_here(uri)


def test_by_an_alias_of_libvirts(server):
    """Of root, libvirt reads the system's file, which is the bed's own."""
    file = Path("/etc/libvirt/libvirt.conf")
    before = file.read_text() if file.exists() else ""
    file.write_text(f'uri_aliases = ["far={server.uri(command=server.client())}"]\n')
    try:
        assert leads_here("far")
    finally:
        file.write_text(before)


def test_by_the_users_ssh_configuration_agent_and_jump_host(directory, server, monkeypatch):
    agent = directory / "agent"
    started = subprocess.Popen(["ssh-agent", "-D", "-a", agent], stdout=subprocess.DEVNULL)
    try:
        while not agent.is_socket():
            assert started.poll() is None
            time.sleep(0.02)
        monkeypatch.setenv("SSH_AUTH_SOCK", str(agent))
        subprocess.run(["ssh-add", "-q", directory / "user"], check=True)
        config = directory / "config"
        config.write_text(
            f"Host far jump\n HostName {ADDRESS}\n Port {PORT}\n User root\n IdentityFile none\n"
            f" UserKnownHostsFile {server.known_hosts()}\nHost far\n ProxyJump jump\n"
        )
        client = directory / "configured"
        client.write_text(f'#!/bin/sh\nexec ssh -F {config} "$@"\n')
        client.chmod(0o755)
        assert leads_here(f"qemu+ssh://far/system?command={client}")
    finally:
        started.terminate()
        started.wait(10)


def test_by_a_socket_here():
    with connect("qemu+unix:///system?socket=/run/libvirt/libvirt-sock") as there:
        assert not there.local


# --- TLS ---------------------------------------------------------------------


def certificates(directory):
    """Make an authority, and what it vouches for: a server on loopback, and a client."""

    def openssl(*words):
        subprocess.run(["openssl", *words], cwd=directory, check=True, capture_output=True)

    key = ("-newkey", "rsa:2048", "-nodes", "-days", "2")
    openssl("req", "-x509", *key, "-subj", "/CN=authority", "-keyout", "cakey.pem", "-out",
            "cacert.pem")  # fmt: skip
    for name in ("server", "client"):
        openssl("req", *key[:3], "-subj", f"/CN={name}", "-keyout", f"{name}key.pem", "-out",
                f"{name}.csr")  # fmt: skip
        extensions = directory / f"{name}.ext"
        extensions.write_text(f"subjectAltName=IP:{ADDRESS}\nextendedKeyUsage={name}Auth\n")
        openssl("x509", "-req", "-in", f"{name}.csr", "-CA", "cacert.pem", "-CAkey", "cakey.pem",
                "-CAcreateserial", "-days", "2", "-extfile", f"{name}.ext", "-out",
                f"{name}cert.pem")  # fmt: skip


def test_by_tls(tmp_path):
    pki, stranger = tmp_path / "pki", tmp_path / "stranger"
    for each in (pki, stranger):
        each.mkdir()
        certificates(each)
    settings = (
        f'listen_tls = 1\nlisten_addr = "{ADDRESS}"\nauth_tls = "none"\n'
        f'key_file = "{pki}/serverkey.pem"\ncert_file = "{pki}/servercert.pem"\n'
        f'ca_file = "{pki}/cacert.pem"\n'
    )
    uri = f"qemu+tls://{ADDRESS}/system?pkipath="
    with another_libvirtd(tmp_path / "tls", "--listen", settings=settings, alone=False) as other:
        with connect(uri + str(pki)) as there:
            assert identity(there).host_uuid == other.uuid
        refused = refusal(uri + str(stranger))
        assert f"the TLS certificate of {ADDRESS} is not accepted" in refused.message
        assert "openssl s_client -connect 127.0.0.1:16514" in refused.hint


def test_without_certificates(tmp_path):
    refused = refusal(f"qemu+tls://{ADDRESS}/system?pkipath={tmp_path}")
    assert f"a certificate for TLS to {ADDRESS} is missing here" in refused.message
    assert "tlscerts" in refused.hint


# --- what is in the way ------------------------------------------------------


def refusal(uri, seconds=None):
    with pytest.raises(HypervisorError) as failure, connect(uri, seconds):
        pass
    assert failure.value.message.startswith(f"cannot connect to the hypervisor at {uri}: ")
    assert len(failure.value.message.splitlines()) == 1
    return failure.value


def test_an_unknown_host_key_is_not_accepted(directory, server):
    nothing = directory / "nothing"
    nothing.write_text("")
    uri = server.uri(command=server.client("unknown", known=nothing))
    for _ in range(2):  # it was not accepted silently, either
        refused = refusal(uri)
        assert f"the ssh host key of {ADDRESS} is not known here" in refused.message
        assert f"'ssh-keyscan -p {PORT} {ADDRESS} | ssh-keygen -lf -'" in refused.hint
        assert f"'ssh -p {PORT} root@{ADDRESS} true'" in refused.hint
    assert not nothing.read_text()


def test_a_parameter_that_libvirt_takes_no_notice_of_is_told(directory, server):
    nothing = directory / "nothing"
    nothing.write_text("")
    command = server.client("unknown", known=nothing)
    refused = refusal(server.uri(command=command, known_hosts=server.known_hosts()))
    assert "takes no notice of 'known_hosts' with +ssh" in refused.hint


@pytest.mark.parametrize("transport", ["ssh", "libssh", "libssh2"])
def test_another_host_key_is_told_from_an_unknown_one(directory, server, transport):
    other = server.known_hosts("stranger", "known_stranger")
    uri = (
        server.uri(command=server.client("changed", known=other))
        if transport == "ssh"
        else server.uri(
            transport=transport, keyfile=directory / "user", known_hosts=other, sshauth="privkey"
        )
    )
    refused = refusal(uri)
    assert f"the ssh host key of {ADDRESS} is another one than it was" in refused.message
    assert f"'ssh-keygen -R \"[{ADDRESS}]:{PORT}\"'" in refused.hint


def test_who_is_not_let_in(directory, server):
    client = directory / "nokey"
    known = server.known_hosts()
    client.write_text(
        f'#!/bin/sh\nexec ssh -F none -o IdentityFile=none -o UserKnownHostsFile={known} "$@"\n'
    )
    client.chmod(0o755)
    refused = refusal(server.uri(command=client))
    assert f"{ADDRESS} does not let root log in by ssh" in refused.message
    assert "ssh-copy-id" in refused.hint


def test_a_user_without_a_shell(server):
    refused = refusal(server.uri("nobody", command=server.client()))
    assert "is not libvirt, but writes a text" in refused.message
    assert "must write nothing" in refused.hint


def test_without_helper_and_netcat_there(directory, behind):
    small = directory / "small"
    small.mkdir()
    for name in ("sh", "which"):
        (small / name).symlink_to(f"/bin/{name}")
    far = behind(f"PATH={small}")
    refused = refusal(far.uri(command=far.client()))
    assert f"on {ADDRESS} there is neither virt-ssh-helper nor netcat" in refused.message
    assert "install libvirt's daemon there" in refused.hint
    refused = refusal(far.uri(command=far.client(), proxy="native"))
    assert f"there is no virt-ssh-helper on {ADDRESS}" in refused.message
    assert "'proxy=native'" in refused.hint


def test_who_may_not_use_libvirt_there(behind):
    far = behind("setpriv --reuid=65534 --regid=65534 --clear-groups")
    refused = refusal(far.uri(command=far.client()))
    assert f"root may not use libvirt on {ADDRESS}" in refused.message
    assert "to the group 'libvirt' there" in refused.hint


def test_no_libvirtd_there(behind):
    hidden = "mount -t tmpfs none /run/libvirt; "
    far = behind(f"unshare --mount /bin/sh -c '{hidden}exec \"$@\"' sh")
    refused = refusal(far.uri(command=far.client()))
    assert f"libvirtd does not run on {ADDRESS}" in refused.message
    assert f"'ssh -p {far.port} root@{ADDRESS} systemctl start libvirtd'" in refused.hint


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        ("qemu+ssh://root@nosuch.invalid/system", "nobody knows a host nosuch.invalid"),
        (f"qemu+ssh://root@{ADDRESS}:9/system", f"{ADDRESS} does not answer at port 9"),
        (f"qemu+tcp://{ADDRESS}:9/system", f"{ADDRESS} does not answer at port 9"),
    ],
)
def test_a_host_that_does_not_answer(uri, message):
    assert message in refusal(uri).message


def test_a_host_that_says_nothing_is_waited_for_so_long(directory, server):
    with socket.create_server((ADDRESS, 0)) as silent:
        port = silent.getsockname()[1]
        uri = f"qemu+ssh://root@{ADDRESS}:{port}/system?command={server.client()}"
        begun = time.monotonic()
        assert "no answer within 2 s" in refusal(uri, 2).message
        assert time.monotonic() - begun < 10


def test_nobody_is_asked_where_nobody_can_answer(directory, server):
    """Not by a prompt on a terminal that is there, but in which a program reads."""
    nothing = directory / "nothing"
    nothing.write_text("")
    client = server.client("unknown", known=nothing)
    begun = time.monotonic()
    done = subprocess.run(
        ["setsid", ".venv/bin/python", "-m", "pyguixvm", "-c", server.uri(command=client), "list"],
        cwd=Path(__file__).parents[2], stdin=subprocess.DEVNULL, capture_output=True, text=True,
    )  # fmt: skip
    assert (done.returncode, time.monotonic() - begun < 20) == (5, True), done.stderr
    assert re.search("host key .* is not known here", done.stderr)


def test_what_an_old_libvirt_lacks_is_told():
    driver = libvirt.open("test:///default")
    with pytest.raises(libvirt.libvirtError) as failure:
        driver.getDomainCapabilities()
    driver.close()
    assert "libvirt 9.0 or newer is wanted" in explain(failure.value, "do it").hint


@pytest.mark.parametrize("given", ["argument", "environment"])
def test_what_is_given_beforehand_is_connected_to_before_it_is_asked(
    server, a_machine, tmp_path, monkeypatch, given
):
    uri = server.uri(command=server.client())
    here = dataclasses.replace(session(tmp_path), uri=uri if given == "argument" else None)
    if given == "environment":
        here = dataclasses.replace(here, environment={"LIBVIRT_DEFAULT_URI": uri})
    # Once more as watch does, which knows by then.
    for _ in range(2):
        with here.connecting(), ExitStack() as opened, monkeypatch.context() as patched:
            patched.setattr(reach, "opened", lambda *_, **__: pytest.fail("it is connected"))
            (seen,), _ = reach.reached(here, [a_machine()], opened)
            assert seen.connection.uri == uri
            assert seen.connection.handle.isAlive()
    # What was taken is not there again.
    with monkeypatch.context() as patched, ExitStack() as opened:
        patched.setenv("LIBVIRT_DEFAULT_URI", uri)
        (seen,), _ = reach.reached(here, [a_machine()], opened)
        assert seen.connection.uri == uri

# SPDX-License-Identifier: GPL-3.0-or-later
"""Machines are made of an image that a server has: it is fetched once, and is what it should be."""

import hashlib
import sys
from pathlib import Path

import msgspec
import pytest
from boot_sector import halting
from deploying import MIB, take_away
from sshd import sshd

from pyguixvm.cli.app import main
from pyguixvm.hypervisor import domains
from pyguixvm.model.declaration import ConsoleReady, Deployment
from pyguixvm.model.image import RemoteImage

sys.path.insert(0, str(Path(__file__).parents[1] / "unit"))
from serving import served

CONTENT = halting().ljust(16 * MIB, b"\0")
DIGEST = hashlib.sha256(CONTENT).hexdigest()
SYSTEM = "qemu:///system"


@pytest.fixture
def server():
    with served(CONTENT) as running:
        yield running


@pytest.fixture
def two(a_machine, pool, server, monkeypatch, tmp_path):
    """Declare two machines of one image, which `deploy` finds declared in a file."""
    declared = [a_machine(ready=(ConsoleReady("up"),), pool=pool.name) for _ in range(2)]
    monkeypatch.setenv("PYGUIXVM_VIRT_TYPE", "qemu")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))

    def declare(digest=DIGEST, form="raw"):
        image = RemoteImage(url=server.url, sha256=digest, format=form)
        made = [msgspec.structs.replace(each, image=image) for each in declared]
        file = tmp_path / "infra.json"
        deployment = Deployment(schema=1, config=str(file), machines=tuple(made))
        file.write_bytes(msgspec.json.encode({"deployment": deployment}))
        return str(file)

    yield [each.name for each in declared], declare
    take_away(*(each.name for each in declared))


def test_both_are_made_of_what_is_fetched_once(connection, two, server, tmp_path, capfd):
    names, declare = two
    server.cuts = [5 * MIB]
    config = declare()
    assert main(["-c", SYSTEM, "plan", config]) == 0
    assert f"fetch {server.url}" in capfd.readouterr().out
    assert server.asked == []
    assert main(["-c", SYSTEM, "deploy", config]) == 0, capfd.readouterr().err
    assert server.asked == [0, 5 * MIB]
    assert {domains.state(connection, name) for name in names} <= {"running", "paused"}
    assert main(["-c", SYSTEM, "plan", "--exit-code", config]) == 0
    assert (tmp_path / "state" / "pyguixvm" / "images" / DIGEST).read_bytes() == CONTENT


def test_the_hypervisor_fetches_it_itself_where_it_has_a_shell(
    connection, two, server, tmp_path, capfd
):
    names, declare = two
    config = declare()
    for each in (tmp_path, *tmp_path.parents[:2]):
        each.chmod(0o755)
    with sshd(tmp_path, 2274) as there:
        uri = there.uri(command=there.client())
        assert main(["-c", uri, "plan", config]) == 0
        assert "the hypervisor fetches it itself, unless it has it" in capfd.readouterr().out
        for each in (names[:1], names):
            assert main(["-c", uri, "deploy", config, *each]) == 0, capfd.readouterr().err
            # Once here, where roots are grown of it, and once there.
            assert server.asked == [0, 0]
            assert "it is sent from here" not in capfd.readouterr().err
        assert main(["-c", uri, "plan", "--exit-code", config]) == 0
    assert {domains.state(connection, name) for name in names} <= {"running", "paused"}


def test_what_is_not_what_is_declared_is_told_and_nothing_made(connection, two, server, capfd):
    names, declare = two
    assert main(["-c", SYSTEM, "deploy", declare(digest="0" * 64)]) == 5
    said = capfd.readouterr().err
    assert f"has the SHA-256 {DIGEST}, not {'0' * 64}" in said
    assert "config.scm:" in said
    assert main(["-c", SYSTEM, "deploy", declare(form="qcow2")]) == 1
    assert "is raw, and declared to be qcow2" in capfd.readouterr().err
    assert not any(domains.exists(connection, name) for name in names)


def test_one_that_names_a_file_of_the_host_is_not_used(
    connection, two, server, run, tmp_path, capfd
):
    names, declare = two
    image, secret = tmp_path / "image", tmp_path / "secret"
    form = f"data_file={secret},data_file_raw=on"
    run("qemu-img", "create", "-q", "-f", "qcow2", "-o", form, image, "16M")
    server.content = image.read_bytes()
    config = declare(digest=hashlib.sha256(server.content).hexdigest(), form="qcow2")
    assert main(["-c", SYSTEM, "deploy", config]) == 1
    assert "names another file" in capfd.readouterr().err
    # It is here by now.
    assert main(["-c", SYSTEM, "plan", config]) == 1
    assert "names another file" in "".join(capfd.readouterr())
    assert not any(domains.exists(connection, name) for name in names)

# SPDX-License-Identifier: GPL-3.0-or-later
"""What --json prints of machines that are there is as doc/json.md says."""

import json
import time
from contextlib import suppress

import libvirt
import msgspec
import pytest

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli import declaration, status
from pyguixvm.cli.app import main
from pyguixvm.cli.documents import OF_VERBS
from pyguixvm.commands import planning
from pyguixvm.commands.addresses import with_addresses
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.hypervisor import domains
from pyguixvm.model.declaration import Deployment

SYSTEM = "qemu:///system"
SESSION = Session(SYSTEM, (), {"PYGUIXVM_VIRT_TYPE": "qemu"}, ignore, ignore)


@pytest.fixture
def printed(monkeypatch, capfd):
    """Run a verb with --json; return what it prints, which is its document."""
    monkeypatch.setenv("PYGUIXVM_VIRT_TYPE", "qemu")

    def run(verb, *arguments, expected=0):
        assert main(["-c", SYSTEM, verb, "--json", *arguments]) == expected
        text = capfd.readouterr().out
        msgspec.json.decode(text, type=OF_VERBS[verb], strict=True)
        return json.loads(text)

    return run


@pytest.fixture
def declares(monkeypatch):
    """Have a configuration declare machines."""

    def declare(*machines):
        found = Deployment(schema=1, config="/src/config.scm", machines=machines)
        monkeypatch.setattr(declaration, "evaluated", lambda *_, **__: found)
        monkeypatch.setattr(status.evaluate, "evaluate", lambda *_, **__: found)
        return "/src/config.scm"

    return declare


def test_each_verb(connection, deployed, declares, printed):
    machine = deployed()
    name, config = machine.name, declares(machine)
    (shown,) = printed("status", config)["machines"]
    assert (shown["machine"], shown["status"], shown["state"]) == (name, "stopped", "shut off")
    # There is no system on its disk: it need not run on.
    domains.start_paused(connection, name)
    (shown,) = printed("status", name)["machines"]
    assert (shown["state"], shown["detail"]) == ("paused", "paused by somebody")
    (found,) = [each for each in printed("list")["machines"] if each["machine"] == name]
    assert found["state"] == "paused"
    assert [each["machine"] for each in printed("generations", name)["generations"]] == [name]
    (planned,) = printed("plan", config)["plans"][0]["machines"]
    assert (planned["machine"], planned["declaration"]["name"]) == (name, name)
    assert printed("deploy", config)["machines"][0]["outcome"] == "unchanged"
    assert printed("autostart", name)["machines"][0]["detail"] == "autostart on"
    assert printed("gc", "--dry-run")["removed"] is False
    assert printed("destroy", name)["machines"][0]["machine"] == name
    assert printed("undefine", "--yes", name)["machines"][0]["machine"] == name
    (missing,) = printed("status", config)["machines"]
    assert (missing["status"], missing["state"]) == ("missing", None)


def test_what_is_left_alone_has_its_address(connection, tiny_machine):
    machine = tiny_machine("dhcp")
    connection.handle.lookupByName(machine.name).create()
    unchanged, deadline = Outcome(machine.name, "unchanged"), time.monotonic() + 120
    with planning.observed(SESSION, [machine]) as planned:
        while not (told := with_addresses(planned, [unchanged])[0]).addresses:
            assert time.monotonic() < deadline
            time.sleep(0.2)
        assert told.addresses[0].startswith("192.168.")
        failed = Outcome(machine.name, "failed")
        assert with_addresses(planned, [failed]) == (failed,)
        with suppress(libvirt.libvirtError):
            connection.handle.lookupByName(machine.name).destroy()
        connection.handle.lookupByName(machine.name).undefine()
        assert with_addresses(planned, [unchanged]) == (unchanged,)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["status", ""], True),
        (["deploy", "config.scm", ""], True),
        (["deploy", ""], False),
        (["deploy", "-L", ""], False),
    ],
)
def test_machines_are_completed_where_they_can_stand(deployed, monkeypatch, capfd, words, found):
    name = deployed().name
    typed = ["pyguixvm", "-c", SYSTEM, *words]
    monkeypatch.setenv("_PYGUIXVM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", " ".join(typed))
    monkeypatch.setenv("COMP_CWORD", str(len(typed) - 1))
    with pytest.raises(SystemExit):
        main(["-c", SYSTEM])
    assert (f"plain,{name}" in capfd.readouterr().out.split()) is found

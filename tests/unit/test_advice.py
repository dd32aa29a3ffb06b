# SPDX-License-Identifier: GPL-3.0-or-later
"""What people are told to type is what they can type."""

from __future__ import annotations

import os
import shlex
from pathlib import Path

import pytest
from declarations import domain, machine
from hypothesis import given
from hypothesis import strategies as st
from test_interference import SECOND, found, root
from test_planner import applied
from test_storage_plan import DB, disk, planned, with_disks

from pyguixvm import advice
from pyguixvm.advice import reaching, words
from pyguixvm.apply.moved_volumes import Move
from pyguixvm.cli import app
from pyguixvm.commands import deploy, guest_ssh, migrate, planning, power
from pyguixvm.commands.machines import Done, require_unprotected
from pyguixvm.commands.session import Session
from pyguixvm.commands.volumes import require_deletable
from pyguixvm.digest.memory import Digests
from pyguixvm.errors import RequestRefusedError
from pyguixvm.events import ignore
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.migration import Line
from pyguixvm.hypervisor.observe import observe
from pyguixvm.model.data_record import DataRecord, FoundRecord
from pyguixvm.model.declaration import Networking
from pyguixvm.model.listed import ListedVolume
from pyguixvm.model.observation import Snapshot
from pyguixvm.plan.interference import require_unkept

FAR = "qemu+ssh://root@far/system?keyfile=my key&no_verify=1"
NAMES = st.text(st.characters(exclude_characters="\0", exclude_categories=["Cs"]), min_size=1)


@given(st.lists(NAMES, min_size=1, max_size=3))
def test_a_shell_takes_names_as_they_are(names: list[str]) -> None:
    first, *rest = split = shlex.split(words(*names))
    assert (rest if first == "--" and split != names else split) == names


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("'virsh resume web'", "'virsh -c test:///x resume web'"),
        ("Start it: pyguixvm start web", "Start it: pyguixvm -c test:///x start web"),
        (
            "virsh start a && virsh start b",
            "virsh -c test:///x start a && virsh -c test:///x start b",
        ),
        # That goes where each machine is declared to be.
        ("pyguixvm deploy CONFIG web", "pyguixvm deploy CONFIG web"),
        # It names one already, or is asked on another host, or no command.
        ("virsh -c test:///y undefine web", None),
        ("'virsh list' at both", None),
        ("see whether 'ssh HOST virsh list' works", None),
        ("use another name for the machine, or virsh for that domain", None),
        ("use the newer pyguixvm for this machine", None),
        ("'pyguixvm evaluator status' shows what is left", None),
    ],
)
def test_commands_ask_the_hypervisor_that_the_machine_is_on(text: str, told: str | None) -> None:
    assert reaching(text, None) == text
    assert reaching(text, None, "test:///x") == (told or text)
    assert reaching(reaching(text, None, "test:///x"), None, "test:///y") == (told or text)


def test_what_was_given_is_given_again_to_all_that_take_it() -> None:
    text = "'virsh resume web', then: pyguixvm deploy CONFIG web"
    far = shlex.quote(FAR)
    assert reaching(text, FAR) == (
        f"'virsh -c {far} resume web', then: pyguixvm -c {far} deploy CONFIG web"
    )
    assert reaching(text, FAR, "test:///x") == (
        f"'virsh -c test:///x resume web', then: pyguixvm -c {far} deploy CONFIG web"
    )
    assert shlex.split(reaching("virsh start web", FAR)) == ["virsh", "-c", FAR, "start", "web"]
    assert reaching(None, FAR) is None


def test_each_verb_is_known_to_ask_a_hypervisor_or_not() -> None:
    assert {*advice.ASKING, *advice.DECLARING} == app._COMMANDS.keys() - {"evaluator"}


def test_an_error_tells_to_ask_where_it_came_from(capsys: pytest.CaptureFixture[str]) -> None:
    assert app.main(["-c", "test:///default", "volumes", "delete", "no"]) == 1
    assert "'pyguixvm -c test:///default volumes' lists" in capsys.readouterr().err
    assert app.main(["-c", "test:///default", "--json", "volumes", "delete", "no", "--yes"]) == 1
    assert "'pyguixvm -c test:///default volumes' lists" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("given", "declared"), [("test:///default", None), (None, "test:///default")]
)
def test_a_refused_machine_is_mended_where_it_is(given: str | None, declared: str | None) -> None:
    lost = Networking(network="nowhere", mac_address="52:54:00:00:00:01")
    refused = machine(hypervisor=declared, domain=domain(networking=(lost,)))
    session = Session(given, (), os.environ, ignore, lambda _: None)
    with planning.observed(session, [refused], config="config.scm") as planned:
        ((web,),) = [each.plan.machines for each in planned]
        assert web.hint is not None
        assert "'virsh -c test:///default net-define'" in web.hint
        (outcome,) = deploy.deploy(session, Path("config.scm"), planned)
    assert outcome.error is not None
    assert outcome.error.hint == web.hint


def test_names_of_others_are_told_as_a_shell_takes_them() -> None:
    with pytest.raises(RequestRefusedError) as refused:
        require_unkept(found(root(SECOND), snapshots=(Snapshot("before it's late"),)))
    *_, command = (refused.value.hint or "").partition("any more: ")
    assert shlex.split(command) == ["virsh", "snapshot-delete", "web", "before it's late"]


def test_so_are_pools() -> None:
    record = FoundRecord(DataRecord("my pool", DB))
    hint = planned(with_disks(disk()), None, recorded=(record,)).hint or ""
    assert "virsh pool-start 'my pool'" in hint
    assert hint.endswith(f"pyguixvm volumes forget 'my pool/{DB}'")


def test_a_protected_machine_is_what_was_deployed() -> None:
    with pytest.raises(RequestRefusedError, match="'web' is protected and not removed") as refused:
        require_unprotected("removed", {"web": applied(protect=True)})
    assert "declare (protect? #f), and deploy that, first" in (refused.value.hint or "")


def test_what_keeps_a_machine_from_moving_is_mended_where_that_is() -> None:
    with connect("test:///default") as source:
        move = Move("test", source, source, ignore, Digests(Path("/")), lambda: None)
        with pytest.raises(RequestRefusedError) as refused:
            migrate._send(move, observe(source), Line())
    assert "'virsh -c test:///default migrate' moves it" in (refused.value.hint or "")


@pytest.mark.parametrize("form", [(), ("--json",)])
def test_what_went_wrong_with_one_of_several_tells_so_too(
    form: tuple[str, ...], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    lost = RequestRefusedError("no", hint="Start it: pyguixvm start web")
    monkeypatch.setattr(power, "destroy", lambda *_, **__: (Done("web", "", error=lost),))
    assert app.main(["-c", "test:///x", *form, "destroy", "web", "db"]) == 1
    said = capsys.readouterr()
    assert "Start it: pyguixvm -c test:///x start web" in (said.out if form else said.err)


def test_what_another_volume_stands_on_is_not_let_go_of_by_a_machine() -> None:
    volume = ListedVolume(
        pool="default",
        volume=DB,
        machine="web",
        disk="db",
        uuid=None,
        deployment=None,
        size=None,
        allocation=None,
        file_system=None,
        state="in use",
        detail="volume 'copy' of pool 'default' stands on it",
    )
    with pytest.raises(RequestRefusedError, match="'copy' of pool 'default' stands on") as refused:
        require_deletable([volume])
    assert (refused.value.hint or "").startswith("It can be deleted once nothing uses it: ")


@pytest.mark.parametrize(
    ("state", "way"),
    [
        ("shut off", "pyguixvm start web"),
        ("paused", "virsh resume web"),
        ("suspended", "virsh dompmwakeup web"),
    ],
)
def test_who_logs_in_to_a_guest_that_does_not_run_is_told_what_has_it_run(
    state: str, way: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guest_ssh, "machines_metadata", lambda *_: {})
    monkeypatch.setattr(guest_ssh.domains, "state", lambda *_: state)
    session = Session("test:///default", (), os.environ, ignore, lambda _: None)
    with pytest.raises(RequestRefusedError, match=f"'web' does not run: it is {state}") as refused:
        guest_ssh.ssh_options(session, "web")
    assert refused.value.hint == f"Have it run: {way}"

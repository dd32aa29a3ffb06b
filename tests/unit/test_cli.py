# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line understands, prints, and exits with."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from declarations import GIB, domain, machine

from pyguixvm.cli.app import main
from pyguixvm.cli.options import split_config
from pyguixvm.cli.output import error_document, error_lines
from pyguixvm.cli.show import declared_line, plan_lines
from pyguixvm.errors import BuildError, EvaluationError, NotReadyError, PyguixvmError
from pyguixvm.model.observation import Observation
from pyguixvm.reconcile.differences import Difference
from pyguixvm.reconcile.plan import MachinePlan, Plan
from pyguixvm.reconcile.planner import plan


@pytest.mark.parametrize(
    ("arguments", "config", "machines"),
    [
        ((), "config.scm", ()),
        (("web",), "config.scm", ("web",)),
        (("lan.scm",), "lan.scm", ()),
        (("lan.scm", "web", "db"), "lan.scm", ("web", "db")),
        (("hosts/lan", "web"), "hosts/lan", ("web",)),
    ],
)
def test_which_argument_is_the_configuration(
    arguments: tuple[str, ...], config: str, machines: tuple[str, ...]
) -> None:
    assert split_config(arguments) == (Path(config), machines)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, ""),
        (["--version"], 0, ""),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["watch"], 2, "'watch' is not in this version"),
        (["deploy", "--frobnicate"], 2, "No such option"),
        (["check", "missing.scm"], 2, "there is no configuration missing.scm"),
        (["start"], 2, "Missing argument"),
    ],
)
def test_exit_statuses(
    arguments: list[str],
    status: int,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(arguments) == status
    assert words in capsys.readouterr().err


def test_no_guix_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("config.scm").write_text("(virtual-machine)")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert main(["check"]) == 4
    said = capsys.readouterr().err
    assert "'guix'" in said
    assert "in PATH" in said


@pytest.mark.parametrize("place", [["--json", "check"], ["check", "--json"]])
def test_errors_as_json(
    place: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(place) == 2
    assert json.loads(capsys.readouterr().out)["error"]["status"] == 2


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        (PyguixvmError("no", hint="try"), ["pyguixvm: error: no", "hint: try"]),
        (EvaluationError("no", location="a.scm:3:1"), ["a.scm:3:1: error: no"]),
        (
            BuildError("no", log="/l", tail=("x",)),
            ["pyguixvm: error: no", "  | x", "  the whole log: /l"],
        ),
        (
            NotReadyError("no", console=("login:",)),
            ["pyguixvm: error: no", "  the console's last lines:", "  | login:"],
        ),
    ],
)
def test_errors_as_lines(error: PyguixvmError, lines: list[str]) -> None:
    assert error_lines(error) == lines
    assert error_document(error)["message"] == "no"


def test_a_machine_in_one_line() -> None:
    assert declared_line(machine(domain=domain(cpu=2, memory=2 * GIB))) == (
        "web: 2 CPU, 2G memory, 10G storage, GNU with Linux-Libre 6.17.12, ext4 root"
    )


def test_a_plan_in_lines() -> None:
    lines = list(plan_lines(plan([machine()], Observation(uri="test:///", local=True, domains={}))))
    assert lines == [
        "+ web: create on test:///",
        f"    build /gnu/store/{'a' * 32}-disk-image",
        "    create volume pyguixvm-web.g1.qcow2 of 10G in pool default",
        "    define the domain, autostart on",
        "    start it and wait at most 120 s until it is ready",
    ]


def test_a_refusal_shows_what_differs() -> None:
    refused = MachinePlan(
        machine=machine(),
        effect="replace",
        refusal="it changed",
        hint="replace it",
        differences=(
            Difference("domain.memory", GIB, 2 * GIB, "live"),
            Difference("domain.title", None, "<Web>", "live"),
            Difference("domain.autostart", True, False, "live"),
            Difference("domain.kernel-arguments", [], ["quiet", "nosmt"], "restart", pending=True),
        ),
    )
    assert list(plan_lines(Plan(uri="test:///", machines=(refused,)))) == [
        "x web: refused: it changed",
        "    domain.memory: 1G -> 2G (live)",
        "    domain.title: not set -> <Web> (live)",
        "    domain.autostart: #t -> #f (live)",
        "    domain.kernel-arguments: () -> (quiet nosmt) (pending until restart)",
        "    replace it",
    ]

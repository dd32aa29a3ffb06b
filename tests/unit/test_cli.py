# SPDX-License-Identifier: GPL-3.0-or-later
"""What the command line understands, prints, and exits with."""

from __future__ import annotations

import io
import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import get_args

import pytest
from declarations import GIB, domain, machine

from pyguixvm.apply.outcome import Outcome
from pyguixvm.cli import as_documents, declaration, here, watch
from pyguixvm.cli.app import main
from pyguixvm.cli.options import Options, split_config
from pyguixvm.cli.output import Output, error_lines, no_machines
from pyguixvm.cli.show import declared_line, plan_lines
from pyguixvm.commands import listing, machines, power, undefine
from pyguixvm.errors import (
    BuildError,
    EvaluationError,
    HypervisorError,
    NotReadyError,
    PyguixvmError,
)
from pyguixvm.events import Event, Notice, PhaseFinished, PhaseStarted, undisturbed
from pyguixvm.model.difference import Difference
from pyguixvm.model.observation import Observation
from pyguixvm.plan.plan import MachinePlan, Plan, Strategy
from pyguixvm.plan.planner import plan


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
    assert split_config(Options(), arguments) == (Path(config), machines)


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (["--help"], 0, ""),
        (["--version"], 0, ""),
        (["frobnicate"], 2, "No such command 'frobnicate'"),
        (["publish"], 2, "'publish' is not in this version"),
        (["deploy", "--frobnicate"], 2, "No such option"),
        (["apply"], 2, "Did you mean 'pyguixvm deploy'?"),
        (["ls"], 2, "Did you mean 'pyguixvm list'?"),
        (["delete", "web"], 2, "Did you mean 'pyguixvm undefine'?"),
        (["stop", "web"], 2, "Did you mean 'pyguixvm shutdown'?"),
        (["depoly"], 2, "Did you mean 'pyguixvm deploy'?"),
        (["generation"], 2, "Did you mean 'pyguixvm generations'?"),
        (["frobnicate"], 2, "What there is: check, plan, "),
        (["deploy", "--dryrun"], 2, "hint: 'pyguixvm plan' shows what deploy would do"),
        (["deploy", "--dry-run"], 2, "hint: 'pyguixvm plan' shows what deploy would do"),
        (["deploy", "-n"], 2, "hint: 'pyguixvm plan' shows what deploy would do"),
        (["check", "missing.scm"], 2, "there is no configuration missing.scm"),
        (["start"], 2, "Missing argument"),
        (["shutdown", "--timeout", "nan", "web"], 2, "is no number of seconds"),
        (["reboot", "--timeout", "inf", "web"], 2, "is no number of seconds"),
        (["gc", "--older-than", "99999999999w"], 2, "longer ago than"),
        (["start", "\udcff"], 2, "'\\udcff' is no text"),
        (["check", "\udcff.scm"], 2, "is no text"),
        (["-c", "qemu+ssh://[::1/system", "check"], 2, "is no URI of a hypervisor"),
        (["-c", "qemu+ssh://[::1/system", "status", "web"], 2, "an IPv6 address is written in"),
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


def test_the_command_alone_says_how_it_is_used(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 2
    said = capsys.readouterr().err
    assert said.startswith("Usage: pyguixvm [OPTIONS] COMMAND")
    assert "Commands:" in said


@pytest.mark.parametrize("verb", ["destroy", "undefine", "start"])
def test_a_machine_that_is_named_twice_is_dealt_with_once(
    verb: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, ...]] = []

    def noted(_session: object, names: tuple[str, ...], **_: object) -> tuple[()]:
        asked.append(names)
        return ()

    for name in ("destroy", "removals", "start"):
        monkeypatch.setattr(undefine if name == "removals" else power, name, noted)
    monkeypatch.setattr(undefine, "undefine", lambda *_: ())
    assert main([verb, *(["--yes"] if verb == "undefine" else []), "web", "db", "web"]) == 0
    assert asked == [("web", "db")]


@pytest.mark.parametrize("verb", ["list", "status", "generations"])
def test_that_there_is_nothing_is_said(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["-c", "test:///default", verb]) == 0
    said = capsys.readouterr()
    where = "No machines on test:///default. Deploy some with: pyguixvm -c test:///default deploy\n"
    assert (said.out, said.err) == ("", where)
    assert main(["-c", "test:///default", verb, "--json"]) == 0
    document = json.loads(capsys.readouterr().out)
    assert document.pop("schema") == 2
    assert list(document.values()) == [[]]


@pytest.mark.parametrize(
    ("uri", "chosen", "words"),
    [
        ("qemu:///session", False, "the system's is: --connect qemu:///system"),
        ("qemu:///session", True, "Deploy some with"),
        ("qemu:///system", False, "Deploy some with"),
    ],
)
def test_whose_hypervisor_was_asked_is_said(uri: str, chosen: bool, words: str) -> None:
    said = no_machines(uri, chosen=chosen)
    assert said.startswith(f"No machines on {uri}.")
    assert words in said


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


@pytest.mark.parametrize(
    "place",
    [
        ["--json", "check"],
        ["check", "--json"],
        ["check", "--frobnicate", "--json"],
        ["--frobnicate", "--json"],
        ["--json"],
    ],
)
def test_errors_as_json(
    place: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert main(place) == 2
    assert json.loads(capsys.readouterr().out)["error"]["status"] == 2


@pytest.mark.parametrize("fails", [False, True])
def test_a_deployment_that_prunes_is_one_document(
    fails: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def removed(*_: object) -> tuple[machines.Done, ...]:
        if fails:
            raise HypervisorError("it is gone")
        return (machines.Done("old", "removed"),)

    outcomes = (Outcome("web", "unchanged"), Outcome("db", "failed", error=NotReadyError("late")))
    done = (outcomes, [("test:///default", "old")])
    monkeypatch.setattr(declaration, "deploy_once", lambda *_, **__: done)
    monkeypatch.setattr(undefine, "removals", lambda *_, **__: ())
    monkeypatch.setattr(undefine, "undefine", removed)
    assert main(["deploy", "--json", "--prune"]) == 2
    assert "Give --yes" in json.loads(capsys.readouterr().out)["error"]["hint"]
    assert main(["deploy", "--json", "--prune", "--yes"]) == 7
    document = json.loads(capsys.readouterr().out)
    assert [machine["machine"] for machine in document["machines"]] == ["web", "db"]
    assert document["undeclared"] == [
        {"machine": "old", "name": "old", "hypervisor": "test:///default"}
    ]
    assert [done["machine"] for done in document["removed"]] == ([] if fails else ["old"])
    assert document.get("error", {}).get("message") == ("it is gone" if fails else None)


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
    assert as_documents.error(error).message == "no"


def test_a_machine_in_one_line() -> None:
    assert declared_line(machine(domain=domain(cpu=2, memory=2 * GIB))) == (
        "web: 2 CPU, 2G memory, 10G storage, GNU with Linux-Libre 6.17.12, ext4 root"
    )


def test_a_plan_in_lines() -> None:
    lines = list(plan_lines(plan([machine()], Observation(uri="test:///", local=True, domains={}))))
    assert lines == [
        "+ web: create on test:///",
        "    strategy full: there is no image with the same partitions to stand on yet",
        f"    build /gnu/store/{'a' * 32}-disk-image",
        "    create volume pyguixvm-web.g1.qcow2 of 10G in pool default",
        "      how much is copied for its image is known once that is built",
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
            # As where a balloon is at work.
            Difference("domain.maximum-memory", 2 * GIB - 4096, 2 * GIB, "live"),
            Difference("domain.title", None, "<Web>", "live"),
            Difference("domain.autostart", True, False, "live"),
            Difference("domain.kernel-arguments", [], ["quiet", "nosmt"], "restart", pending=True),
        ),
    )
    assert list(plan_lines(Plan(uri="test:///", machines=(refused,)))) == [
        "x web: refused: it changed",
        "    domain.memory: 1G -> 2G (live)",
        "    domain.maximum-memory: 2097148K -> 2G (live)",
        "    domain.title: not set -> <Web> (live)",
        "    domain.autostart: #t -> #f (live)",
        "    domain.kernel-arguments: () -> (quiet nosmt) (pending until restart)",
        "    replace it",
    ]


@pytest.mark.parametrize("verbosity", [0, 1])
def test_what_cannot_be_told_ends_no_work(verbosity: int, monkeypatch: pytest.MonkeyPatch) -> None:
    with Path("/dev/full").open("w", encoding="utf-8") as full:
        monkeypatch.setattr(sys, "stderr", full)
        options = Options(verbosity=verbosity)
        within = here.session(options, Output(options))
        for event in (PhaseStarted("stop", "web"), PhaseFinished("stop", 1.0, "web")):
            within.emit(event)
        within.forward(b"what the configuration says")
        # Python would complain when it flushes what is left at the end.
        full.buffer.raw.close()


def test_an_interruption_is_no_trouble_with_telling() -> None:
    def interrupted(_event: Event) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        undisturbed(interrupted)(Notice("web is restarted"))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("colours", [True, False])
def test_a_plan_on_a_terminal_is_a_diff_in_colours(
    colours: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    terminal = Terminal()
    monkeypatch.setattr(sys, "stdout", terminal)
    monkeypatch.setenv("NO_COLOR", "" if colours else "1")
    output = Output(Options())
    changed = MachinePlan(
        machine=machine(),
        effect="live",
        differences=(Difference("domain.title", "a -> b", "c", "live"),),
    )
    for line in plan_lines(Plan("test:///", (changed,), undeclared=("old",)), output.paint):
        output.diff(line)
    shown = terminal.getvalue()
    first, second, last = (
        "~ web: live on test:///",
        "    domain.title: a -> b -> c (live)",
        "- old: no longer declared on test:///; 'deploy --prune' removes it",
    )
    if not colours:
        assert shown.splitlines() == [first, second, last]
        return
    assert shown.splitlines() == [
        f"\x1b[33m{first}\x1b[0m",
        "    domain.title: \x1b[31ma -> b\x1b[0m -> \x1b[32mc\x1b[0m (live)",
        f"\x1b[31m{last}\x1b[0m",
    ]


# --- interruptions and prompts ----------------------------------------------


@contextmanager
def busy(directory: Path, verb: str, errors: int) -> Iterator[subprocess.Popen[str]]:
    """Run VERB, with standard error ERRORS, until it waits for a Guix that never answers."""
    guix = directory / "guix"
    asked = f"echo $$ > {directory}/asking\nmv {directory}/asking {directory}/asked\n"
    guix.write_text(f"#!/bin/sh\n{asked}exec sleep 600\n")
    guix.chmod(0o755)
    (directory / "config.scm").write_text("(virtual-machine)")
    environment = {
        "PATH": f"{directory}:{os.environ['PATH']}",
        "PYGUIXVM_EVALUATOR": "off",
        "TERM": "xterm",
    }
    with subprocess.Popen(
        [sys.executable, "-m", "pyguixvm", verb],
        cwd=directory,
        env=os.environ | environment,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        start_new_session=True,
    ) as process:
        try:
            deadline = time.monotonic() + 60
            while not (directory / "asked").exists():
                assert process.poll() is None
                assert time.monotonic() < deadline
                time.sleep(0.05)
            yield process
        finally:
            process.kill()


@pytest.mark.parametrize(
    ("verb", "left"),
    [
        ("check", "Nothing was changed on the hypervisor."),
        ("deploy", "The next deploy goes on from there"),
    ],
)
def test_a_signal_to_the_real_process_is_said(verb: str, left: str, tmp_path: Path) -> None:
    with busy(tmp_path, verb, subprocess.PIPE) as process:
        # As a terminal does: to all that run in the foreground.
        os.killpg(process.pid, signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, "")
    assert err.strip().splitlines()[0] == "pyguixvm: interrupted"
    assert left in err
    assert "Traceback" not in err


@pytest.mark.parametrize("verb", ["check", "deploy"])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_whoever_ends_it_from_outside_gets_the_same_and_nothing_runs_on(
    verb: str, number: signal.Signals, tmp_path: Path
) -> None:
    with busy(tmp_path, verb, subprocess.PIPE) as process:
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert (process.returncode, out) == (130, ""), err
    assert err.strip().splitlines()[0] == "pyguixvm: interrupted"
    # What it asked has ended, too.
    guix = int((tmp_path / "asked").read_text())
    with pytest.raises(ProcessLookupError):
        os.kill(guix, 0)


def test_a_terminal_that_is_gone_ends_it_with_the_same_status(tmp_path: Path) -> None:
    person, program = pty.openpty()
    with busy(tmp_path, "deploy", program) as process:
        os.close(program)
        os.close(person)
        process.send_signal(signal.SIGHUP)
        assert process.wait(timeout=60) == 130


def test_an_interrupted_command_gives_the_terminal_its_cursor_back(tmp_path: Path) -> None:
    person, program = pty.openpty()
    with busy(tmp_path, "check", program) as process:
        os.close(program)
        os.killpg(process.pid, signal.SIGINT)
        seen = b""
        # Linux ends a terminal that nobody has open any more with EIO.
        with suppress(OSError):
            while data := os.read(person, 4096):
                seen += data
        assert process.wait(timeout=60) == 130
    os.close(person)
    hidden, shown = seen.rfind(b"\x1b[?25l"), seen.rfind(b"\x1b[?25h")
    assert 0 <= hidden < shown < seen.rfind(b"pyguixvm: interrupted")


class Answers(io.StringIO):
    """A terminal on which somebody types a line, or ^C."""

    def __init__(self, typed: str | None) -> None:
        super().__init__(typed or "")
        self._interrupts = typed is None

    def isatty(self) -> bool:
        return True

    def readline(self, size: int | None = -1, /) -> str:
        if self._interrupts:
            raise KeyboardInterrupt
        return super().readline(-1 if size is None else size)


@pytest.mark.parametrize(
    ("typed", "status", "said"),
    [
        ("n\n", 1, "pyguixvm: error: undefine was not confirmed, nothing was changed"),
        ("\n", 1, "pyguixvm: error: undefine was not confirmed, nothing was changed"),
        ("", 1, "pyguixvm: error: undefine was not confirmed, nothing was changed"),
        (None, 130, "pyguixvm: interrupted, nothing was changed"),
    ],
)
def test_what_is_not_confirmed_is_not_done(
    typed: str | None,
    status: int,
    said: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    removal = undefine.Removal("web", True, (("default", "pyguixvm-web.g1.qcow2"),), (1,))
    monkeypatch.setattr(undefine, "removals", lambda *_, **__: (removal,))
    monkeypatch.setattr(undefine, "undefine", lambda *_: pytest.fail("it was done"))
    monkeypatch.setattr(sys, "stdin", Answers(typed))
    assert main(["undefine", "web"]) == status
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err.splitlines()[-1].endswith(said)


def test_an_interruption_as_json(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(power, "destroy", interrupted)
    assert main(["--json", "destroy", "web"]) == 130
    error = json.loads(capsys.readouterr().out)["error"]
    assert (error["status"], error["message"]) == (130, "interrupted")
    assert "pyguixvm list" in error["hint"]


def test_an_interruption_while_python_still_reads_the_program_is_no_traceback(
    tmp_path: Path,
) -> None:
    (tmp_path / "click.py").write_text("raise KeyboardInterrupt\n")
    done = subprocess.run(
        [sys.executable, "-m", "pyguixvm", "--help"],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": str(tmp_path)},
    )
    assert (done.returncode, done.stderr) == (130, "pyguixvm: interrupted\n")


@pytest.mark.parametrize(
    ("command", "status", "said"),
    [
        ("--help >/dev/full", 1, "pyguixvm: error: cannot write: No space left on device\n"),
        ("check missing.scm --json >/dev/full", 1, "pyguixvm: error: cannot write: "),
        ("check missing.scm 2>/dev/full", 1, ""),
        ("check missing.scm 2>&-", 2, ""),
        ("--help >&-", 0, ""),
        ("check missing.scm <&- >&-", 2, "pyguixvm: error: there is no configuration missing.scm"),
    ],
)
def test_streams_that_take_nothing_are_no_traceback(
    command: str, status: int, said: str, tmp_path: Path
) -> None:
    done = subprocess.run(
        ["sh", "-c", f"exec {sys.executable} -m pyguixvm {command}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=tmp_path,
    )
    assert done.returncode == status
    assert done.stderr.startswith(said)
    assert "Traceback" not in done.stderr
    assert done.stderr == "" or said


@pytest.mark.parametrize("command", ["--help", "check missing.scm --json"])
def test_a_reader_that_went_away_is_not_told(command: str, tmp_path: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer) as pipe:
        done = subprocess.run(
            [sys.executable, "-m", "pyguixvm", *command.split()],
            stdout=pipe,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
            cwd=tmp_path,
        )
    assert (done.returncode, done.stderr) == (1, "")


def test_a_directory_that_is_gone_is_said(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    config.write_text("(virtual-machine)")
    gone = tmp_path / "gone"
    gone.mkdir()
    guix = tmp_path / "guix"
    guix.write_text("#!/bin/sh\n")
    guix.chmod(0o755)
    done = subprocess.run(
        ["sh", "-c", f"rmdir ../gone; exec {sys.executable} -m pyguixvm check {config}"],
        capture_output=True,
        text=True,
        check=False,
        cwd=gone,
        env={**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"},
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert "the directory that this was started in is gone" in done.stderr


def test_an_interrupted_completion_writes_nothing_into_the_prompt(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def interrupted(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(listing, "listed", interrupted)
    monkeypatch.setenv("_PYGUIXVM_COMPLETE", "bash_complete")
    monkeypatch.setenv("COMP_WORDS", "pyguixvm start ")
    monkeypatch.setenv("COMP_CWORD", "2")
    assert main([]) == 130
    said = capsys.readouterr()
    assert (said.out, said.err) == ("", "")


def test_every_strategy_can_be_asked_for() -> None:
    (option,) = (p for p in declaration.plan_command.params if p.name == "strategy")
    assert tuple(option.type.choices) == get_args(Strategy)


@pytest.mark.parametrize(
    ("said", "trial", "rest"),
    [
        ((), None, ()),
        (("--test",), "direct", ()),
        (("--test", "full"), "direct", ("full",)),
        (("--test=full", "web"), "full", ("web",)),
        (("--", "--test"), None, ("--test",)),
    ],
)
def test_a_trial_takes_no_argument_for_its_manner(
    said: tuple[str, ...], trial: str | None, rest: tuple[str, ...]
) -> None:
    for command in (declaration.deploy_command, watch.watch_command):
        context = command.make_context("verb", list(said))
        assert (context.params["trial"], context.params["arguments"]) == (trial, rest)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The one runner of commands."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from processes import processes_naming

from pyguixvm.daemon import detach, serving
from pyguixvm.process import (
    CommandFailedError,
    CommandTimeoutError,
    MissingProgramError,
    describe_status,
    run,
    which,
)


def alive(pid: int) -> bool:
    """True for a process that runs, false for none and for one that only waits to be reaped."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_both_streams_and_the_status_are_kept_apart() -> None:
    completed = run(["sh", "-c", "echo out; echo err >&2; exit 3"], check=False)
    assert (completed.status, completed.stdout, completed.stderr) == (3, b"out\n", b"err\n")


def test_output_is_neither_cut_nor_decoded() -> None:
    program = "head -c 5000000 /dev/zero; printf '\\377\\r\\n'; printf '\\376' >&2"
    completed = run(["sh", "-c", program])
    assert completed.stdout == bytes(5_000_000) + b"\xff\r\n"
    assert completed.stderr == b"\xfe"


def test_of_both_streams_no_more_is_kept_than_was_asked_for() -> None:
    done = run(["sh", "-c", "printf 12345; printf 67890 >&2"], most=5)
    assert (done.stdout, done.stderr) == (b"12345", b"67890")
    lines: list[str] = []
    program = "printf '1\\n23456789\\nend' >&2"
    assert run(["sh", "-c", program], most=5, on_error_line=lines.append).stderr == b"9\nend"
    assert lines == ["1", "23456", "789", "end"]
    # One that never ends by itself: it cannot write.
    done = run(["cat", "/dev/zero"], most=10 * 4096, check=False, timeout=60)
    assert done.status != 0
    assert done.stdout == bytes(10 * 4096)
    flood = "head -c 50000000 /dev/zero >&2; printf last >&2"
    assert run(["sh", "-c", flood], most=4096).stderr == bytes(4092) + b"last"


def test_standard_output_is_no_terminal() -> None:
    assert run(["sh", "-c", "test -t 1; echo $?"]).text == "1"


def test_arguments_reach_the_program_as_they_are() -> None:
    arguments = ["", "*", "a b", "$HOME", "--x=1", "ü", "'"]
    program = "import sys; print(sys.argv[1:])"
    assert run([sys.executable, "-c", program, *arguments]).text == repr(arguments)


def test_input_directory_and_environment_reach_the_program(tmp_path: Path) -> None:
    data = bytes(range(256)) * 4096
    assert run(["cat"], stdin=data).stdout == data
    assert run(["cat"]).stdout == b""
    assert run(["pwd"], directory=tmp_path).text == str(tmp_path)
    completed = run(["env"], environment={"ONLY": "this"})
    assert "ONLY=this" in completed.text
    assert "HOME=" not in completed.text


def test_lines_of_standard_error_are_seen_while_it_runs() -> None:
    lines: list[str] = []
    completed = run(["sh", "-c", "echo one >&2; printf two >&2"], on_error_line=lines.append)
    assert lines == ["one", "two"]
    assert completed.stderr == b"one\ntwo"


def test_what_a_line_callback_raises_comes_out() -> None:
    def refuse(line: str) -> None:
        raise ValueError(line)

    with pytest.raises(ValueError, match="one"):
        run(["sh", "-c", "echo one >&2; echo two >&2"], on_error_line=refuse)


def test_a_failure_can_be_pasted_and_shows_the_whole_reason() -> None:
    reason = "x" * 2000
    with pytest.raises(CommandFailedError) as caught:
        run(["sh", "-c", "echo $1 >&2; exit 4", "a b", reason])
    assert caught.value.exit_status == 4
    assert "sh -c 'echo $1 >&2; exit 4' 'a b'" in caught.value.message
    assert caught.value.message.endswith(f"\n  {reason}")


@pytest.mark.parametrize(
    ("status", "words"),
    [
        (1, "failed with status 1"),
        (126, "cannot be executed"),
        (127, "was not found"),
        (-9, "was ended by SIGKILL"),
        (-15, "was ended by SIGTERM"),
        (-64, "was ended by "),
    ],
)
def test_statuses_are_put_into_words(status: int, words: str) -> None:
    assert words in describe_status(status)


def test_a_signal_is_named() -> None:
    with pytest.raises(CommandFailedError, match="was ended by SIGKILL"):
        run(["sh", "-c", "kill -9 $$"])


def test_a_missing_program_says_what_to_install() -> None:
    with pytest.raises(MissingProgramError, match="'no-such-program'") as caught:
        which("no-such-program", "install it")
    assert caught.value.hint == "install it"
    with pytest.raises(MissingProgramError):
        run(["/no/such/program"])


def test_a_timeout_ends_the_whole_group(tmp_path: Path) -> None:
    pids = tmp_path / "pids"
    program = f"sleep 60 & echo $! > {pids}; sleep 60"
    with pytest.raises(CommandTimeoutError, match=r"did not end in 0\.5 s"):
        run(["sh", "-c", program], timeout=0.5)
    # Its files are closed; when it is gone for good is the kernel's business.
    limit = time.monotonic() + 5
    while alive(int(pids.read_text())) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not alive(int(pids.read_text()))


def test_a_timeout_that_is_not_reached_changes_nothing() -> None:
    for _ in range(20):
        completed = run(["sh", "-c", "echo one; echo two >&2"], timeout=60)
        assert (completed.stdout, completed.stderr) == (b"one\n", b"two\n")


def test_an_interrupt_ends_the_whole_group_and_goes_on(tmp_path: Path) -> None:
    pids = tmp_path / "pids"

    def interrupt() -> None:
        while not (pids.exists() and pids.read_text().endswith("\n")):
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    thread = threading.Thread(target=interrupt)
    thread.start()
    with pytest.raises(KeyboardInterrupt):
        run(["sh", "-c", f"sleep 60 & echo $! > {pids}; sleep 60"])
    thread.join()
    # The signal was sent; when the kernel gets round to it is the kernel's business.
    deadline = time.monotonic() + 5
    while alive(int(pids.read_text())) and time.monotonic() < deadline:
        time.sleep(0.01)
    assert not alive(int(pids.read_text()))


@pytest.mark.parametrize("delay", [0.0, 0.002, 0.005, 0.01, 0.02])
def test_an_interrupt_at_any_moment_leaves_no_process(tmp_path: Path, delay: float) -> None:
    pids = tmp_path / "pids"
    timer = threading.Timer(delay, os.kill, [os.getpid(), signal.SIGINT])
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 -- it may come at once
        timer.start()
        run(["sh", "-c", f"echo $$ > {pids}; exec sleep 60"])
    timer.join()
    # Either it was never started, or it is gone.
    assert not processes_naming(tmp_path)
    assert not (pids.exists() and pids.read_text() and alive(int(pids.read_text())))


def test_a_daemon_serves_during_the_body_and_is_gone_afterwards(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    argv = ["sh", "-c", f"touch {mark}; exec sleep 60"]
    with serving(argv, ready=mark.exists, check=False) as pid:
        assert alive(pid)
    assert not alive(pid)


@pytest.mark.parametrize(
    ("ends", "words"),
    [
        ("trap 'echo disk is full >&2; exit 1' TERM", "failed with status 1:.*disk is full"),
        ("trap - TERM", "was ended by SIGTERM"),
    ],
)
def test_a_daemon_that_does_not_end_well_has_failed(tmp_path: Path, ends: str, words: str) -> None:
    mark = tmp_path / "mark"
    argv = ["sh", "-c", f"{ends}; touch {mark}; while :; do sleep 0.01; done"]
    with (
        pytest.raises(CommandFailedError, match=re.compile(words, re.DOTALL)),
        serving(argv, ready=mark.exists),
    ):
        pass


def test_a_daemon_that_ends_well_when_it_is_asked_to_has_not_failed(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    argv = ["sh", "-c", f"trap 'exit 0' TERM; touch {mark}; while :; do sleep 0.01; done"]
    with serving(argv, ready=mark.exists):
        pass


def test_a_daemon_is_gone_after_an_exception(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    argv = ["sh", "-c", f"touch {mark}; exec sleep 60"]
    with pytest.raises(KeyboardInterrupt), serving(argv, ready=mark.exists) as pid:
        raise KeyboardInterrupt
    assert pid > 0
    assert not alive(pid)


def test_a_daemon_that_fails_says_why() -> None:
    argv = ["sh", "-c", "echo no such export >&2; exit 1"]
    with (
        pytest.raises(CommandFailedError, match="no such export"),
        serving(argv, ready=lambda: False),
    ):
        pytest.fail("not ready")


def test_a_daemon_that_never_gets_ready_is_ended(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    argv = ["sh", "-c", f"echo $$ > {pid_file}; exec sleep 60"]
    with pytest.raises(CommandTimeoutError), serving(argv, ready=lambda: False, deadline=0.3):
        pytest.fail("not ready")
    assert not alive(int(pid_file.read_text()))


def test_a_daemon_ends_when_its_starter_is_killed(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    # It is bound to its starter when it runs, as one is that is ready.
    runs = tmp_path / "runs"
    program = f"""
import pathlib, time
from pyguixvm.daemon import serving
argv = ["sh", "-c", 'echo > "$0"; exec sleep 60', {str(runs)!r}]
with serving(argv, ready=pathlib.Path({str(runs)!r}).exists) as pid:
    pathlib.Path({str(pid_file)!r}).write_text(f"{{pid}}\\n")
    time.sleep(60)
"""
    starter = subprocess.Popen([sys.executable, "-c", program])
    while not (pid_file.exists() and pid_file.read_text().endswith("\n")):
        assert starter.poll() is None
        time.sleep(0.01)
    starter.kill()
    starter.wait()
    daemon = int(pid_file.read_text())
    limit = time.monotonic() + 10
    while alive(daemon) and time.monotonic() < limit:
        time.sleep(0.01)
    assert not alive(daemon)


def test_a_detached_server_outlives_the_call(tmp_path: Path) -> None:
    pid_file = tmp_path / "pid"
    program = f"echo $$ > {pid_file}; echo ready; exec sleep 60"
    detach(["sh", "-c", program], environment=os.environ, log=tmp_path / "log", deadline=10)
    server = int(pid_file.read_text())
    try:
        assert alive(server)
        assert os.getsid(server) == server
    finally:
        os.kill(server, signal.SIGKILL)


def test_a_detached_server_that_fails_shows_its_log(tmp_path: Path) -> None:
    with pytest.raises(CommandFailedError, match="bad module"):
        detach(
            ["sh", "-c", "echo bad module >&2; exit 1"],
            environment=os.environ,
            log=tmp_path / "log",
            deadline=10,
        )


def test_subprocess_is_imported_only_when_a_command_runs() -> None:
    program = "import sys, pyguixvm.process; print('subprocess' in sys.modules)"
    assert run([sys.executable, "-c", program]).text == "False"

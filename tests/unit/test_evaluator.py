# SPDX-License-Identifier: GPL-3.0-or-later
"""The client of the evaluator, with a server of the test's own behind a real socket."""

from __future__ import annotations

import json
import os
import socket
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pyguixvm.errors import BuildError, EvaluationError, RequestRefusedError, UnknownMachineError
from pyguixvm.guix import endpoint
from pyguixvm.guix.command import find_guix, identity, scheme_directory
from pyguixvm.guix.endpoint import Setting, runtime_directory
from pyguixvm.guix.evaluator import decode, evaluate
from pyguixvm.guix.request import Exchange
from pyguixvm.model.declaration import SCHEMA

DEPLOYMENT = {"schema": SCHEMA, "config": "/c.scm", "machines": []}
GOOD = json.dumps({"deployment": DEPLOYMENT}).encode() + b"\n"
ENVIRONMENT = {"PATH": os.environ["PATH"], "HOME": "/home/u", "LANG": "C.UTF-8"}


@pytest.fixture
def runtime() -> Iterator[Path]:
    """A directory with a name short enough for sockets, which pytest's own is not."""
    with tempfile.TemporaryDirectory(prefix="run-") as directory:
        yield Path(directory)


class Server:
    """Answers each connection with the next of ANSWERS, and remembers the requests."""

    def __init__(self, *answers: Callable[[socket.socket, dict[str, Any]], None] | bytes) -> None:
        self.answers = list(answers)
        self.requests: list[dict[str, Any]] = []
        self.threads: list[threading.Thread] = []

    def connect(self, _setting: Setting, _directory: Path) -> socket.socket:
        ours, theirs = socket.socketpair()
        thread = threading.Thread(target=self.serve, args=[theirs, self.answers.pop(0)])
        thread.start()
        self.threads.append(thread)
        return ours

    def serve(self, connection: socket.socket, answer: Any) -> None:
        with connection, connection.makefile("rb") as lines:
            request = json.loads(lines.readline())
            self.requests.append(request)
            if callable(answer):
                answer(connection, request)
            else:
                connection.sendall(answer)


def exchange(server: Server, runtime: Path) -> Exchange:
    environment = {**ENVIRONMENT, "XDG_RUNTIME_DIR": str(runtime)}
    options = ("--no-grafts",)
    return Exchange(Path("/bin/true"), options, environment, connect=server.connect)


def test_the_request_says_all_that_an_evaluation_depends_on(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(runtime)
    server = Server(GOOD)
    deployment = evaluate(
        exchange(server, runtime),
        Path("c.scm"),
        want="images",
        machines=["web"],
        forward=lambda _: None,
    )
    assert (deployment.config, deployment.machines) == ("/c.scm", ())
    (request,) = server.requests
    stderr = request.pop("stderr")
    assert Path(stderr).is_relative_to(runtime / "pyguixvm")
    assert request == {
        "schema": SCHEMA,
        "command": "evaluate",
        "config": str(runtime / "c.scm"),
        "want": "images",
        "machines": ["web"],
        "tags": [],
        "directory": str(runtime),
        "environment": {**ENVIRONMENT, "XDG_RUNTIME_DIR": str(runtime)},
        "options": ["--no-grafts"],
        "sharing": "virtiofs",
        "shared-store": False,
        "build": True,
        "time-limit": 600,
    }
    assert list((runtime / "pyguixvm").iterdir()) == []


def test_a_variable_that_is_no_utf8_stays_behind(runtime: Path) -> None:
    server = Server(GOOD)
    client = Exchange(
        Path("/bin/true"),
        (),
        {"XDG_RUNTIME_DIR": str(runtime), "ODD": "\udcff", "EVEN": "ü💡"},
        connect=server.connect,
    )
    evaluate(client, Path("c.scm"), want="metadata", forward=lambda _: None)
    # Guile's JSON reader refuses it, and with it the whole request.
    assert server.requests[0]["environment"] == {"XDG_RUNTIME_DIR": str(runtime), "EVEN": "ü💡"}


def test_what_the_configuration_prints_is_forwarded_before_the_answer(runtime: Path) -> None:
    heard: list[bytes] = []
    enough = threading.Event()

    def forward(data: bytes) -> None:
        heard.append(data)
        enough.set()

    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        with Path(request["stderr"]).open("wb") as stderr:
            stderr.write(b"hello \xff\n")
            stderr.flush()
            assert enough.wait(10)
            stderr.write(b"last words")
        connection.sendall(GOOD)

    evaluate(exchange(Server(answer), runtime), Path("c"), want="metadata", forward=forward)
    assert b"".join(heard) == b"hello \xff\nlast words"


def test_an_answer_in_pieces_is_put_together(runtime: Path) -> None:
    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        for byte in GOOD:
            connection.sendall(bytes([byte]))

    evaluate(exchange(Server(answer), runtime), Path("c"), want="metadata", forward=lambda _: None)


def test_an_evaluator_that_was_just_ending_is_asked_anew(runtime: Path) -> None:
    server = Server(b"", GOOD)
    evaluate(exchange(server, runtime), Path("c"), want="metadata", forward=lambda _: None)
    assert len(server.requests) == 2


def test_an_evaluator_that_has_loaded_what_changed_since_is_asked_anew(runtime: Path) -> None:
    server = Server(b'{"unfit":"outdated"}\n', GOOD)
    evaluate(exchange(server, runtime), Path("c"), want="metadata", forward=lambda _: None)
    assert len(server.requests) == 2


def test_an_evaluator_that_keeps_ending_is_an_error(runtime: Path) -> None:
    with pytest.raises(EvaluationError, match="ended without an answer"):
        evaluate(
            exchange(Server(b"", b"", b""), runtime),
            Path("c"),
            want="metadata",
            forward=lambda _: None,
        )


def test_an_evaluator_that_is_silent_is_given_up(
    runtime: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("pyguixvm.guix.request._GRACE", 0.1)
    closed = threading.Event()

    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        if connection.recv(1) == b"":
            closed.set()

    with pytest.raises(EvaluationError, match="did not end"):
        evaluate(
            exchange(Server(answer), runtime),
            Path("c"),
            want="metadata",
            forward=lambda _: None,
            seconds=0.1,
        )
    assert closed.wait(10)


def test_an_interrupt_closes_the_connection_and_removes_the_fifo(runtime: Path) -> None:
    closed = threading.Event()

    def answer(connection: socket.socket, request: dict[str, Any]) -> None:
        with Path(request["stderr"]).open("wb") as stderr:
            stderr.write(b"now")
        if connection.recv(1) == b"":
            closed.set()

    def forward(data: bytes) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        evaluate(exchange(Server(answer), runtime), Path("c"), want="metadata", forward=forward)
    assert closed.wait(10)
    assert list((runtime / "pyguixvm").iterdir()) == []


def failure(**parts: Any) -> bytes:
    error = {"kind": "exception", "message": "m", "hint": None, "location": None, **parts}
    return json.dumps({"error": error}).encode()


def test_a_failure_keeps_its_location_and_hint() -> None:
    place = {"file": "/c.scm", "line": 3, "column": 7}
    with pytest.raises(EvaluationError) as caught:
        decode(failure(kind="validation", message="no", hint="yes", location=place))
    error = caught.value
    assert (error.message, error.hint, error.location) == ("no", "yes", "/c.scm:3:7")
    assert error.status == 3


def test_a_machine_that_is_not_declared_is_no_mistake_in_the_configuration() -> None:
    words = "there is no machine 'x'; the configuration declares a, b"
    with pytest.raises(UnknownMachineError, match="declares a, b") as caught:
        decode(failure(kind="validation", message=words))
    assert caught.value.status == 1


def test_a_daemon_that_is_not_there_is_no_mistake_in_the_configuration() -> None:
    words = "Verbindung zu »/var/guix/daemon-socket/socket« fehlgeschlagen"
    with pytest.raises(BuildError) as caught:
        decode(failure(kind="unreachable", message=words))
    assert caught.value.status == 4
    assert caught.value.hint == "Is guix-daemon running?"


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"{}",
        b"Backtrace:",
        json.dumps({"deployment": {**DEPLOYMENT, "schema": SCHEMA + 1}}).encode(),
        json.dumps({"deployment": {**DEPLOYMENT, "unknown": 1}}).encode(),
        json.dumps({"deployment": DEPLOYMENT, "unknown": 1}).encode(),
    ],
)
def test_an_answer_of_another_version_is_refused(line: bytes) -> None:
    with pytest.raises(EvaluationError) as caught:
        decode(line)
    assert "same version" in (caught.value.hint or "")


# Which evaluator answers


def setting(**environment: str) -> Setting:
    return Setting(Path("/bin/true"), {**ENVIRONMENT, **environment})


@pytest.mark.parametrize(
    "name",
    [
        "GUILE_TLS_CERTIFICATE_DIRECTORY",
        "GUIX_CONFIGURATION_DIRECTORY",
        "GUIX_DAEMON_SOCKET",
        "GUIX_DATABASE_DIRECTORY",
        "GUIX_HTTP_CACHE_TTL",
        "GUIX_PACKAGE_PATH",
        "GUIX_PROFILING",
        "GUIX_STATE_DIRECTORY",
        "GUIX_TLS_CERTIFICATE_DIRECTORY",
        "GUIX_UNINSTALLED",
        "HOME",
        "LOGNAME",
        "NIX_STORE_DIR",
        "USER",
        "XDG_CACHE_HOME",
        "XDG_CONFIG_HOME",
    ],
)
def test_what_an_evaluator_keeps_from_its_start_makes_another_one(name: str) -> None:
    assert setting(**{name: "/another"}).digest() != setting().digest()


def test_what_travels_with_the_request_does_not() -> None:
    assert setting(EDITOR="vi", PATH="/x").digest() == setting().digest()
    assert setting(GUIX_BUILD_OPTIONS="-L /x").digest() == setting().digest()
    assert setting(LC_ALL="de_DE.UTF-8", LANGUAGE="de").digest() == setting().digest()


def test_a_user_has_one_name() -> None:
    """cron has no USER, and su may leave the LOGNAME of another."""
    assert setting(USER="eve").digest() == setting(LOGNAME="eve").digest()
    assert setting(USER="eve", LOGNAME="root").digest() == setting(USER="eve").digest()


@pytest.mark.parametrize(
    "name",
    [
        "GUILE_LOAD_COMPILED_PATH",
        "GUILE_LOAD_PATH",
        "GUIX_ENVIRONMENT",
        "GUIX_EXTENSIONS_PATH",
        "GUIX_LOCPATH",
        "GUIX_PROFILE",
        "SSL_CERT_DIR",
        "TZ",
        "http_proxy",
        "https_proxy",
    ],
)
def test_a_profile_makes_no_other_evaluator(name: str) -> None:
    assert setting(**{name: "/gnu/store/x-profile"}).digest() == setting().digest()


def test_another_guix_makes_another_evaluator(runtime: Path) -> None:
    guix = runtime / "guix"
    guix.symlink_to("/bin/true")
    one = Setting(guix, {}).digest()
    guix.unlink()
    guix.symlink_to("/bin/false")
    assert Setting(guix, {}).digest() != one


def test_another_channel_of_the_same_guix_makes_another_evaluator(runtime: Path) -> None:
    """``guix pull`` makes another profile, with a link to the same command as before."""
    (runtime / "store/guix-command/bin").mkdir(parents=True)
    (runtime / "store/guix-command/bin/guix").touch()
    for profile in ("store/one-profile", "store/other-profile"):
        (runtime / profile).mkdir()
        (runtime / profile / "bin").symlink_to(runtime / "store/guix-command/bin")
    current = runtime / "current"
    current.symlink_to("store/one-profile")
    outside = runtime / "guix"
    outside.symlink_to("current/bin/guix")

    def digests() -> list[str]:
        return [Setting(name, {}).digest() for name in (current / "bin/guix", outside)]

    before = digests()
    current.unlink()
    current.symlink_to("store/other-profile")
    assert not set(before) & set(digests())


def test_a_changed_file_has_another_identity(runtime: Path) -> None:
    file = runtime / "file"
    file.write_text("a")
    one = identity(file)
    os.utime(file, ns=(1, 1))
    assert identity(file) != one


def test_the_command_names_our_modules() -> None:
    command = Setting(Path("/g/guix"), {}).command("--once")
    scheme = scheme_directory()
    assert command == [
        "/g/guix",
        "repl",
        "--",
        str(Path(endpoint.__file__).with_name("evaluator-main.scm")),
        str(scheme),
        "--once",
    ]
    assert Path(command[-3]).is_file()


def test_the_runtime_directory_is_made_private(runtime: Path) -> None:
    directory = runtime_directory({"XDG_RUNTIME_DIR": str(runtime)})
    assert directory == runtime / "pyguixvm"
    assert directory.stat().st_mode & 0o777 == 0o700


# Only root can give a directory away.
def test_another_users_runtime_directory_is_passed_over(runtime: Path) -> None:
    if os.geteuid() == 0:
        os.chown(runtime, 65534, 65534)
    theirs = runtime if os.geteuid() == 0 else Path("/")
    found = runtime_directory({"XDG_RUNTIME_DIR": str(theirs)})
    assert found == Path(f"/tmp/pyguixvm-{os.getuid()}")
    assert not (theirs / "pyguixvm").exists()


def test_a_runtime_directory_that_takes_nothing_is_passed_over() -> None:
    assert runtime_directory({"XDG_RUNTIME_DIR": "/proc"}) == Path(f"/tmp/pyguixvm-{os.getuid()}")


@pytest.mark.parametrize("kind", ["mode", "link", *(["owner"] if os.getuid() == 0 else [])])
def test_a_runtime_directory_of_others_is_refused(runtime: Path, kind: str) -> None:
    directory = runtime / "pyguixvm"
    if kind == "link":
        (runtime / "elsewhere").mkdir(mode=0o700)
        directory.symlink_to("elsewhere")
    else:
        directory.mkdir(mode=0o700)
    if kind == "mode":
        directory.chmod(0o770)
    if kind == "owner":
        os.chown(directory, 65534, 65534)
    with pytest.raises(RequestRefusedError, match="only you"):
        runtime_directory({"XDG_RUNTIME_DIR": str(runtime)})


def test_a_name_too_long_for_a_socket_is_avoided(tmp_path: Path) -> None:
    long = tmp_path / ("x" * 100)
    long.mkdir()
    assert runtime_directory({"XDG_RUNTIME_DIR": str(long)}) == Path(f"/tmp/pyguixvm-{os.getuid()}")


FAKE_GUIX = """#!{python}
import os, socket, sys
address = sys.argv[sys.argv.index("--") + 3]
server = socket.socket(socket.AF_UNIX)
try:
    os.unlink(address)
except FileNotFoundError:
    pass
server.bind(address)
server.listen()
with open({starts!r}, "a") as starts:
    starts.write("start\\n")
print("ready", flush=True)
for _ in range({connections}):
    server.accept()
"""


def fake_guix(tmp_path: Path, *, connections: int) -> Path:
    import sys

    guix = tmp_path / "guix"
    text = FAKE_GUIX.format(
        python=sys.executable, starts=str(tmp_path / "starts"), connections=connections
    )
    guix.write_text(text)
    guix.chmod(0o755)
    return guix


def test_commands_at_once_start_one_evaluator(tmp_path: Path) -> None:
    what = Setting(fake_guix(tmp_path, connections=4), dict(os.environ))
    connections: list[socket.socket] = []
    threads = [
        threading.Thread(target=lambda: connections.append(endpoint.connect(what, tmp_path)))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(connections) == 4
    for connection in connections:
        connection.close()
    assert (tmp_path / "starts").read_text() == "start\n"


def test_a_stale_socket_is_replaced(tmp_path: Path) -> None:
    what = Setting(fake_guix(tmp_path, connections=1), dict(os.environ))
    stale = socket.socket(socket.AF_UNIX)
    stale.bind(str(tmp_path / f"{what.digest()}.socket"))
    stale.close()
    endpoint.connect(what, tmp_path).close()
    assert (tmp_path / "starts").read_text() == "start\n"


def test_an_evaluator_that_does_not_start_shows_its_log(tmp_path: Path) -> None:
    guix = tmp_path / "guix"
    guix.write_text("#!/bin/sh\necho 'no code for module (gnu)' >&2\nexit 1\n")
    guix.chmod(0o755)
    with pytest.raises(EvaluationError, match=r"no code for module \(gnu\)"):
        endpoint.connect(Setting(guix, dict(os.environ)), tmp_path)


@pytest.mark.parametrize(("own", "heap"), [({}, "128M"), ({"GC_INITIAL_HEAP_SIZE": "1G"}, "1G")])
def test_an_evaluator_starts_with_memory_for_what_it_loads(
    tmp_path: Path, own: dict[str, str], heap: str
) -> None:
    guix = tmp_path / "guix"
    guix.write_text('#!/bin/sh\necho "heap: $GC_INITIAL_HEAP_SIZE" >&2\nexit 1\n')
    guix.chmod(0o755)
    with pytest.raises(EvaluationError, match=f"heap: {heap}"):
        endpoint.connect(Setting(guix, ENVIRONMENT | own), tmp_path)


def test_a_guix_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(BuildError, match="'guix' is not in PATH") as caught:
        find_guix({"PATH": str(tmp_path)})
    assert "Install GNU Guix" in (caught.value.hint or "")


def test_a_guix_may_be_named(tmp_path: Path) -> None:
    """As ``guix vm`` does, which is another Guix than the one in PATH."""
    (tmp_path / "guix").touch(mode=0o755)
    named = {"PATH": os.environ["PATH"], "PYGUIXVM_GUIX": str(tmp_path / "guix")}
    assert find_guix(named) == tmp_path / "guix"
    with pytest.raises(BuildError, match="no program"):
        find_guix({**named, "PYGUIXVM_GUIX": str(tmp_path / "none")})


def test_without_an_evaluator_that_stays_each_request_has_its_own(tmp_path: Path) -> None:
    guix = tmp_path / "guix"
    guix.write_text(
        f"#!/bin/sh\necho warning >&2\ncat > {tmp_path}/request\necho '{GOOD.decode().strip()}'\n"
    )
    guix.chmod(0o755)
    heard: list[bytes] = []
    environment = {**os.environ, "PYGUIXVM_EVALUATOR": "off"}
    deployment = evaluate(
        Exchange(guix, (), environment), Path("c.scm"), want="systems", forward=heard.append
    )
    assert deployment.config == "/c.scm"
    assert heard == [b"warning\n"]
    assert json.loads((tmp_path / "request").read_text())["want"] == "systems"

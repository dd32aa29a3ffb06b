# SPDX-License-Identifier: GPL-3.0-or-later
"""The evaluator computes the very derivations that ``guix system image`` computes.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_derivations.py``.
"""

from __future__ import annotations

import json
import os
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from evaluating import (
    ENVIRONMENT,
    ROOT,
    Evaluator,
    evaluate_once,
    expected,
    only_image,
    request,
    system,
)
from guest import eventually

pytestmark = pytest.mark.guix

EXAMPLES = ROOT / "examples"

# What a mount-point adds.
MOUNTED = """
(append %base-file-systems
        (list (file-system
                (mount-point "/data") (device "data") (type "virtiofs")
                (check? #f) (create-mount-point? #t))))"""


def machine(config: Path, clauses: str) -> str:
    """A machine that runs the operating-system which the file CONFIG declares."""
    return f'(virtual-machine (operating-system (load "{config}")) {clauses})\n'


# Name: what guix builds, what is declared beside it, the image type.
CASES = {
    "base services": (system(), None, "mbr-hybrid-raw"),
    "an edited system": (
        system(
            "edited",
            services="(cons* (service dhcpcd-service-type) "
            "(service openssh-service-type) "
            '(extra-special-file "/etc/note" (plain-file "note" "edited")) %base-services)',
        ),
        # Otherwise its ssh host keys are kept by a service of their own.
        "(persist '())",
        "mbr-hybrid-raw",
    ),
    "a declared machine": (system(), "(libvirt-domain (cpu 2) (memory 2G))", "mbr-hybrid-raw"),
    # Here the altered operating-system is what has to be the same.
    "kernel arguments": (
        system(arguments='"console=ttyS0" "quiet" "panic=5"'),
        """(libvirt-domain (kernel-arguments '("quiet" "panic=5")))""",
        "mbr-hybrid-raw",
    ),
    "directories of the host": (
        system(file_systems=MOUNTED),
        '(libvirt-domain (mount-points (mount-point (source "/srv") (target "/data"))))',
        "mbr-hybrid-raw",
    ),
    "uefi": (
        system("uefi", bootloader="grub-efi-bootloader", target="/boot/efi"),
        "(libvirt-domain (firmware 'uefi))",
        "efi-raw",
    ),
}


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    memory = str(2 * 1024**3)  # so that it is used up soon
    running = Evaluator(tmp_path_factory.mktemp("evaluator") / "socket", "--memory", memory)
    yield running
    running.stop()
    assert not running.path.exists()


def write_case(directory: Path, name: str) -> tuple[Path, Path, str]:
    """Write what guix and what pyguixvm evaluates; return both, and the image type."""
    text, clauses, image_type = CASES[name]
    reference = directory / "reference.scm"
    reference.write_text(text)
    if clauses is None:
        return reference, reference, image_type
    bare = directory / "os.scm"
    bare.write_text(text.replace(' "quiet" "panic=5"', "").replace(MOUNTED, "%base-file-systems"))
    declared = directory / "machine.scm"
    declared.write_text(machine(bare, clauses))
    return reference, declared, image_type


def test_a_new_process_computes_what_guix_computes(tmp_path: Path) -> None:
    reference, declared, image_type = write_case(tmp_path, "a declared machine")
    image = only_image(evaluate_once(request(declared)))
    assert image["derivation"] == expected(reference, image_type)


@pytest.mark.parametrize("name", CASES)
def test_the_evaluator_computes_what_guix_computes(
    evaluator: Evaluator, tmp_path: Path, name: str
) -> None:
    reference, declared, image_type = write_case(tmp_path, name)
    wanted = expected(reference, image_type)
    # A first answer may come from cold caches, a second from those that a sample
    # filled; a third shows that a worker leaves nothing behind.
    answers = [only_image(evaluator.ask(request(declared))) for _ in range(3)]
    assert [image["derivation"] for image in answers] == [wanted] * 3
    assert {image["image-type"] for image in answers} == {image_type}


IMAGE = """\
(use-modules (gnu) (gnu image) (gnu system image))
(image
  (inherit efi-disk-image)
  (partitions (list esp-partition/grub
                    (partition (inherit root-partition)
                               (file-system "btrfs")
                               (file-system-options '()))))
  (operating-system (load "{system}")))
"""


def test_an_image_is_what_guix_makes_of_it(evaluator: Evaluator, tmp_path: Path) -> None:
    def write(name: str, arguments: str) -> Path:
        os_file, image_file = tmp_path / f"{name}-os.scm", tmp_path / f"{name}.scm"
        bootloader = "grub-efi-bootloader"
        os_file.write_text(system(bootloader=bootloader, target="/boot/efi", arguments=arguments))
        image_file.write_text(IMAGE.format(system=os_file))
        return image_file

    bare, reference = write("bare", '"console=ttyS0"'), write("more", '"console=ttyS0" "quiet"')
    declared = tmp_path / "machine.scm"
    declared.write_text(
        f'(virtual-machine (image (load "{bare}"))'
        """ (libvirt-domain (firmware 'uefi) (kernel-arguments '("quiet"))))"""
    )
    image = only_image(evaluator.ask(request(declared)))
    # Guix takes no notice of an image type where there is an image.
    assert image["derivation"] == expected(reference, "efi-raw")
    assert (image["image-type"], image["root-file-system"]) == (None, "btrfs")


@pytest.mark.parametrize("name", sorted(path.name for path in EXAMPLES.glob("*.scm")))
def test_the_examples_evaluate(evaluator: Evaluator, tmp_path: Path, name: str) -> None:
    config = tmp_path / name
    config.write_text((EXAMPLES / name).read_text())
    # Beside local-image.scm there has to be an image.
    (tmp_path / "disk.qcow2").write_bytes(b"QFI\xfb" + bytes(508))
    answer = evaluator.ask(request(config))
    assert "deployment" in answer, answer
    for declared in answer["deployment"]["machines"]:
        image = declared["image"]
        assert image["kind"] == "local-image" or image["derivation"].endswith("-disk-image.drv")


def test_the_system_is_what_guix_system_build_computes(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    config = tmp_path / "config.scm"
    config.write_text(system())
    done = subprocess.run(
        ["guix", "system", "build", "-d", str(config)],
        check=True, capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    image = only_image(evaluator.ask(request(config, want="systems")))
    assert image["system"] == done.stdout.strip()
    assert image["derivation"] is None


def test_the_environment_and_the_directory_are_the_clients(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    config = tmp_path / "config.scm"
    (tmp_path / "name").write_text("from-a-file")
    config.write_text(
        system().replace(
            '"plain"',
            """(string-append (getenv "PREFIX") "-" (or (getenv "LEFT") "none") "-"
              (call-with-input-file "name" (@ (ice-9 rdelim) read-line)))""",
        )
    )
    for prefix, left in (("a", {}), ("b", {"LEFT": "right"}), ("c", {})):
        environment = {"PATH": os.environ["PATH"], "PREFIX": prefix, **left}
        image = only_image(evaluator.ask(request(config, want="metadata", environment=environment)))
        assert image["host-name"] == f"{prefix}-{left.get('LEFT', 'none')}-from-a-file"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("(exit 7)", "called 'exit'"),
        ("(primitive-exit 7)", "exit status 7"),
        ("(primitive-_exit 0)", "exit status 0"),
        ("(kill (getpid) SIGKILL)", "signal 9"),
        ("(let loop ((l '())) (loop (cons (make-vector 100000 l) l)))", "out of memory"),
        ("(let loop () (+ 1 (loop)))", "stack overflow"),
    ],
)
def test_a_configuration_harms_only_its_own_evaluation(
    evaluator: Evaluator, tmp_path: Path, text: str, message: str
) -> None:
    config = tmp_path / "config.scm"
    config.write_text(text)
    answer = evaluator.ask(request(config))
    assert message in answer["error"]["message"]
    config.write_text(system())
    assert only_image(evaluator.ask(request(config, want="metadata")))["host-name"] == "plain"


def test_a_configuration_that_forks_gives_one_answer(evaluator: Evaluator, tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    # The child goes on to evaluate the rest, as its parent does.
    config.write_text(f"(primitive-fork)\n{system()}")
    answer = evaluator.ask(request(config, want="metadata"))
    assert only_image(answer)["host-name"] == "plain"


def test_the_time_limit_ends_an_evaluation_and_its_children(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = tmp_path / "config.scm"
    # The FIFO has a writer as long as one of the two processes lives.
    config.write_text(
        f'(define port (open-output-file "{fifo}"))\n(primitive-fork)\n(let loop () (loop))\n'
    )
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: answers.append(evaluator.ask(request(config, **{"time-limit": 3})))
    )
    thread.start()
    assert fifo.read_text() == ""
    thread.join(60)
    assert answers[0]["error"]["kind"] == "timeout"


def test_a_client_that_leaves_ends_its_evaluation(evaluator: Evaluator, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = tmp_path / "config.scm"
    # The FIFO has a writer as long as the evaluation lives.
    config.write_text(
        f'(define port (open-output-file "{fifo}"))\n(let loop () (sleep 1000) (loop))\n'
    )
    with evaluator.connect() as connection:
        connection.sendall(json.dumps(request(config)).encode() + b"\n")
        reader = fifo.open()
    with reader:
        assert reader.read() == ""


def test_requests_are_answered_side_by_side(evaluator: Evaluator, tmp_path: Path) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    waiting = tmp_path / "waiting.scm"
    waiting.write_text(f'(call-with-input-file "{fifo}" read)\n{system("waited")}')
    quick = tmp_path / "quick.scm"
    quick.write_text(system("quick"))
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: answers.append(evaluator.ask(request(waiting, want="metadata")))
    )
    thread.start()
    assert only_image(evaluator.ask(request(quick)))["host-name"] == "quick"
    assert not answers
    fifo.write_text("go")
    thread.join(60)
    assert only_image(answers[0])["host-name"] == "waited"


def test_what_the_configuration_prints_goes_to_the_client(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    fifo = tmp_path / "fifo"
    os.mkfifo(fifo)
    config = tmp_path / "config.scm"
    config.write_text(
        "(use-modules (guix diagnostics) (guix i18n))\n"
        '(display "displayed\\n")\n(warning (G_ "a warning~%"))\n'
        f'(system* "sh" "-c" "echo from a child")\n{system()}'
    )
    answers: list[dict[str, Any]] = []
    thread = threading.Thread(
        target=lambda: answers.append(
            evaluator.ask(request(config, want="metadata", stderr=str(fifo)))
        )
    )
    thread.start()
    printed = fifo.read_text()
    thread.join(60)
    assert only_image(answers[0])["host-name"] == "plain"
    for words in ("displayed", "warning: a warning", "from a child"):
        assert words in printed


def test_standard_output_of_a_single_evaluation_holds_the_answer_alone(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    config.write_text(f'(display "noise")\n(system* "echo" "more")\n{system()}')
    assert only_image(evaluate_once(request(config, want="metadata")))["host-name"] == "plain"


@pytest.mark.parametrize(
    "line", ["", "nonsense", "[]", "{}", '{"schema": 2, "command": "evaluate", "config": "/x"}']
)
def test_a_malformed_request_is_refused(evaluator: Evaluator, line: str) -> None:
    with evaluator.connect() as connection:
        connection.sendall(line.encode() + b"\n")
        with connection.makefile() as file:
            assert json.loads(file.readline())["error"]["kind"] == "exception"


def test_the_socket_is_for_its_user_only(evaluator: Evaluator) -> None:
    assert evaluator.path.stat().st_mode & 0o777 == 0o600


def test_an_evaluator_that_nobody_asks_ends(tmp_path: Path) -> None:
    idle = Evaluator(tmp_path / "socket", "--idle", "2")
    assert idle.process.wait(60) == 0
    # Nor does one that took its place stay.
    eventually(lambda: not idle.path.exists())


def test_an_evaluator_leaves_the_socket_of_its_successor_alone(tmp_path: Path) -> None:
    first = Evaluator(tmp_path / "socket", "--idle", "2")
    second = Evaluator(tmp_path / "socket")
    first.process.wait(60)
    assert second.ask({"command": "ping"})["pong"]["pid"] > 0
    second.stop()


def pid_of(evaluator: Evaluator) -> int:
    pid: int = evaluator.ask({"command": "ping"})["pong"]["pid"]
    return pid


def test_an_evaluator_that_was_loaded_from_source_is_succeeded_by_a_compiled_one(
    tmp_path: Path,
) -> None:
    config = tmp_path / "config.scm"
    config.write_text(system())
    first = Evaluator(tmp_path / "socket", XDG_CACHE_HOME=str(tmp_path / "cache"))
    before = pid_of(first)
    # It ends by itself, and whoever comes meanwhile is served.
    eventually(lambda: pid_of(first) != before, 300)
    assert first.process.wait(60) == 0
    files = {Path(line.split()[-1]) for line in mapped(pid_of(first)) if "/cache/" in line}
    assert {file.name for file in files} >= {"server.go", "likeness.go"}
    image = only_image(first.ask(request(config)))
    assert image["derivation"] == expected(config, "mbr-hybrid-raw")
    first.ask({"command": "stop"})
    eventually(lambda: nobody_listens(first))


def mapped(pid: int) -> list[str]:
    return Path(f"/proc/{pid}/maps").read_text().splitlines()


def nobody_listens(evaluator: Evaluator) -> bool:
    try:
        evaluator.connect().close()
    except (ConnectionRefusedError, FileNotFoundError):
        return True
    return False


def test_an_evaluator_that_is_killed_leaves_nobody_behind(tmp_path: Path) -> None:
    killed = Evaluator(tmp_path / "socket")
    assert pid_of(killed)
    killed.process.kill()
    killed.process.wait()
    eventually(lambda: nobody_listens(killed))


@pytest.fixture
def library(tmp_path: Path) -> Path:
    """Write a configuration that takes what it declares from elsewhere; return its file."""
    modules = tmp_path / "modules"
    modules.mkdir()
    text = system(
        services='(cons (extra-special-file "/etc/note" (local-file "note.txt")) %base-services)'
    ).replace("(operating-system", "(define-public os (operating-system", 1)
    header = "(define-module (library) #:use-module (guix gexp))\n"
    (modules / "library.scm").write_text(f"{header}{text})")
    (modules / "note.txt").write_text("noted")
    (tmp_path / "names.scm").write_text('(define name "web")')
    config = tmp_path / "config.scm"
    config.write_text(
        f"""(add-to-load-path "{modules}") (use-modules (library))
        (load "names.scm") (virtual-machine (name name) (operating-system os))"""
    )
    return config


READ = ("config.scm", "modules/library.scm", "modules/note.txt", "names.scm")


@pytest.mark.parametrize(
    ("missing", "kind"),
    [(None, None), ("names.scm", "validation"), ("modules/note.txt", "exception")],
)
def test_what_a_configuration_depends_on_is_told(
    evaluator: Evaluator, library: Path, missing: str | None, kind: str | None
) -> None:
    if missing is not None:
        (library.parent / missing).unlink()
    for _ in range(2):
        answer = evaluator.ask(request(library))
        assert answer.get("error", {}).get("kind") == kind
        told = {Path(file) for file in answer["dependencies"]}
        assert {library.parent / name for name in READ if name != missing} - told <= {
            library.parent / "modules/note.txt"
        }
        assert missing is None or library.parent / missing in told
        # Nothing of Guix's, nor of ours.
        assert not any("site/3.0" in str(file) or "/gnu/store" in str(file) for file in told)


def test_where_a_missing_module_was_looked_for_is_told(
    evaluator: Evaluator, tmp_path: Path
) -> None:
    config = tmp_path / "config.scm"
    config.write_text(f'(add-to-load-path "{tmp_path}") (use-modules (my missing))')
    answer = evaluator.ask(request(config))
    assert str(tmp_path / "my/missing.scm") in answer["dependencies"]

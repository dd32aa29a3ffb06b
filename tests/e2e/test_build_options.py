# SPDX-License-Identifier: GPL-3.0-or-later
"""Build options and load path are those of ``guix system``; what is loaded is never stale.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_build_options.py``.
"""

from __future__ import annotations

import os
import subprocess
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pytest
from running import pyguixvm

from pyguixvm.errors import EvaluationError
from pyguixvm.guix.command import find_guix
from pyguixvm.guix.evaluator import evaluate
from pyguixvm.guix.request import Exchange
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import SystemImage

pytestmark = pytest.mark.guix

AS_USERS_HAVE_IT = True
ROOT = Path(__file__).parents[2]

# A package that only a directory of the user's has.
PACKAGES = """\
(define-module (mine packages)
  #:use-module (guix packages)
  #:use-module (guix build-system trivial))
(define-public note
  (package
    (name "note-of-mine") (version "1") (source #f) (build-system trivial-build-system)
    (arguments '(#:builder (mkdir (assoc-ref %outputs "out"))))
    (synopsis "Note") (description "Note.") (home-page #f) (license #f)))
"""

SYSTEM = """\
(use-modules (gnu))
{before}
(operating-system
  (host-name "optional")
  (bootloader (bootloader-configuration
                (bootloader grub-bootloader) (targets '("/dev/vda"))))
  (file-systems (cons (file-system
                        (mount-point "/") (device (file-system-label "Guix_image")) (type "ext4"))
                      %base-file-systems))
  (packages (append (list {packages}) %base-packages)))
"""

PATHS = """\
(use-modules (gnu packages))
(call-with-output-file "{}" (lambda (port)
  (write (list %load-path (%package-module-path) (%patch-path)) port)))"""


@pytest.fixture
def mine(tmp_path: Path) -> Path:
    directory = tmp_path / "modules"
    (directory / "mine").mkdir(parents=True)
    (directory / "mine/packages.scm").write_text(PACKAGES)
    return directory


def write(directory: Path, *, packages: str = "", before: str = "") -> Path:
    config = directory / "config.scm"
    config.write_text(SYSTEM.format(packages=packages, before=before))
    return config


def machine(
    config: Path, options: Sequence[str] = (), said: list[bytes] | None = None, **environment: str
) -> VirtualMachine:
    exchange = Exchange(find_guix(os.environ), options, {**os.environ, **environment})
    forward = (lambda _: None) if said is None else said.append
    (found,) = evaluate(exchange, config, want="images", forward=forward).machines
    return found


def derivation(config: Path, options: Sequence[str] = (), **environment: str) -> str | None:
    image = machine(config, options, **environment).image
    assert isinstance(image, SystemImage)
    return image.derivation


def guix(config: Path, options: Sequence[str] = (), **environment: str) -> str:
    done = subprocess.run(
        ["guix", "system", "image", "-t", "mbr-hybrid-raw", "-d", *options, str(config)],
        check=True, capture_output=True, text=True, env={**os.environ, **environment},
    )  # fmt: skip
    return done.stdout.strip()


def test_packages_are_looked_up_on_the_load_path(tmp_path: Path, mine: Path) -> None:
    config = write(tmp_path, packages='(specification->package "note-of-mine")')
    options = ["--no-grafts", f"--load-path={mine}"]
    wanted = guix(config, options)
    assert [derivation(config, options) for _ in range(2)] == [wanted] * 2


def test_the_variable_adds_to_the_load_path_each_time(tmp_path: Path, mine: Path) -> None:
    config = write(tmp_path, before="(use-modules (mine packages))", packages="note")
    variable = {"GUIX_BUILD_OPTIONS": f"--no-grafts -L {mine}"}
    wanted = guix(config, **variable)
    # Whoever asks next without it has no such directory.
    assert derivation(config, **variable) == wanted
    assert derivation(config, **variable) == wanted
    with pytest.raises(EvaluationError, match="no code for module"):
        machine(config, GUIX_BUILD_OPTIONS="--no-grafts")


def without(directory: Path, paths: str) -> str:
    return paths.replace(f' "{directory}"', "")


@pytest.mark.parametrize("way", ["-L", "GUILE_LOAD_PATH", "GUIX_PACKAGE_PATH"])
def test_the_paths_are_those_of_guix_system(tmp_path: Path, mine: Path, way: str) -> None:
    found = tmp_path / "paths"
    config = write(tmp_path, before=PATHS.format(found))
    options = ["--no-grafts", *([f"--load-path={mine}"] if way == "-L" else [])]
    environment = {} if way == "-L" else {way: str(mine)}
    guix(config, options, **environment)
    wanted = found.read_text()
    for _ in range(2):
        found.unlink()
        machine(config, options, **environment)
        # Our own modules come last, and nobody looks for packages there.
        ours = f' "{ROOT / "guix"}"'
        assert found.read_text().count(ours) <= 2
        there = found.read_text().replace(ours, "")
        assert there.count(f'"{mine}"') == wanted.count(f'"{mine}"') > 0
        if way == "GUILE_LOAD_PATH":
            # Its place among Guile's own, where nothing else is, depends on how Guix is started.
            assert without(mine, there) == without(mine, wanted)
        else:
            assert there == wanted


@pytest.mark.parametrize("variable", ["--no-such-option", "--cores=many"])
def test_an_option_that_guix_refuses_is_told_as_it_does(tmp_path: Path, variable: str) -> None:
    with pytest.raises(EvaluationError, match=r"no-such-option|not a number.*many"):
        machine(write(tmp_path), GUIX_BUILD_OPTIONS=variable)


def copy_of_machine(directory: Path, marker: str) -> None:
    """Write into DIRECTORY a version of a module of Guix's that the evaluator has loaded."""
    source = subprocess.run(
        ["guix", "repl", "/dev/stdin"],
        input='(display (search-path %load-path "gnu/machine.scm"))',
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    text = subprocess.run(
        ["guix", "repl", "/dev/stdin"],
        input=f'(use-modules (ice-9 textual-ports)) '
        f'(display (call-with-input-file "{source}" get-string-all))',
        check=True, capture_output=True, text=True,
    ).stdout  # fmt: skip
    (directory / "gnu").mkdir(parents=True, exist_ok=True)
    (directory / "gnu/machine.scm").write_text(f'{text}\n(define-public marker "{marker}")\n')


# A machine whose name is what a module has.
NAMED = '(use-modules {})\n(virtual-machine (name marker) (image (local-image "disk")))\n'


def write_named(directory: Path, module: str) -> Path:
    (directory / "disk").write_bytes(bytes(510) + b"\x55\xaa")
    config = directory / "named.scm"
    config.write_text(NAMED.format(module))
    return config


def test_a_module_that_was_edited_after_it_was_loaded_is_loaded_anew(tmp_path: Path) -> None:
    config = write_named(tmp_path, "(gnu machine)")
    directory = tmp_path / "overlay"
    for marker in ("one", "two", "three"):
        copy_of_machine(directory, marker)
        assert machine(config, GUIX_PACKAGE_PATH=str(directory)).name == marker
        assert machine(config, GUIX_PACKAGE_PATH=str(directory)).name == marker


@pytest.mark.parametrize("by_the_file", [False, True], ids=["-L", "by the file"])
def test_a_directory_may_have_other_versions_of_what_is_loaded(
    tmp_path: Path, *, by_the_file: bool
) -> None:
    """As ``guix system`` has it: what it has loaded itself stays, of the rest -L is first."""
    directory = tmp_path / "overlay"
    (directory / "gnu/services").mkdir(parents=True)
    (directory / "gnu/services/ssh.scm").write_text(
        '(define-module (gnu services ssh))\n(define-public marker "mine")\n'
    )
    config = write_named(tmp_path, "(gnu services ssh)")
    if by_the_file:
        config.write_text(f'(add-to-load-path "{directory}")\n{config.read_text()}')
    # Warm: its sample has loaded Guix's.
    machine(write(tmp_path), ["--no-grafts"])
    for _ in range(2):
        options = [] if by_the_file else [f"--load-path={directory}"]
        assert machine(config, options).name == "mine"


def test_an_evaluator_is_shown_and_stopped(tmp_path: Path) -> None:
    """In a directory of the test's own, with a name short enough for sockets."""
    with tempfile.TemporaryDirectory(prefix="run-") as directory:
        own = {"XDG_RUNTIME_DIR": directory}
        assert pyguixvm("evaluator", "status", **own).err == "no evaluator runs\n"
        machine(write(tmp_path), ["--no-grafts"], **own)
        machine(write(tmp_path), ["--no-grafts"], LC_ALL="de_DE.UTF-8", **own)
        (found,) = pyguixvm("evaluator", "--json", "status", **own).json["evaluators"]
        (stopped,) = pyguixvm("evaluator", "--json", "stop", **own).json["evaluators"]
        assert found["pid"] == stopped["pid"]
        assert found["memory"] > 50 * 1024**2
        assert pyguixvm("evaluator", "status", **own).err == "no evaluator runs\n"


# Variables that Guix and Guile read when their modules are loaded, or that the C library
# keeps; what shows that; and what it is for two values of the variable.
READ_ONCE = {
    "http_proxy": ("((@ (web client) current-http-proxy))", '"{}"'),
    "https_proxy": ("((@ (web client) current-https-proxy))", '"{}"'),
    "SSL_CERT_DIR": ("((@ (guix build download) %x509-certificate-directory))", '"{}"'),
    "SSL_CERT_DIR of Guile": ("((@ (web client) x509-certificate-directory))", '"{}"'),
    "TZ": ("(tm:zone (localtime 0))", '"{}"'),
    "TMPDIR": ('(getenv "TMPDIR")', '"{}"'),
}


@pytest.mark.parametrize("name", READ_ONCE)
def test_the_environment_is_that_of_the_request(tmp_path: Path, name: str) -> None:
    shows, written = READ_ONCE[name]
    config = write(tmp_path, before=f"(write {shows} (current-error-port))")
    for value in ("AAA", "BBB"):
        said: list[bytes] = []
        machine(config, said=said, **{name.split(maxsplit=1)[0]: value})
        assert written.format(value) in b"".join(said).decode()

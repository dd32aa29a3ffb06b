# SPDX-License-Identifier: GPL-3.0-or-later
"""``tests/venv`` makes the Python environment, and mends one that was broken off."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
from pathlib import Path

import pytest

TESTS = Path(__file__).parents[1]
# A build backend that takes nothing from any registry, and can be made to wait.
BACKEND = """
import os, zipfile
NAME = "pyguixvm-0"
def build_editable(directory, config_settings=None, metadata_directory=None):
    if os.path.exists("hold"):
        open("reached", "w").close()
        open("hold").close()
    wheel = f"{NAME}-py3-none-any.whl"
    with zipfile.ZipFile(os.path.join(directory, wheel), "w") as archive:
        archive.writestr("pyguixvm.pth", os.getcwd())
        archive.writestr(f"{NAME}.dist-info/METADATA",
                         "Metadata-Version: 2.1\\nName: pyguixvm\\nVersion: 0\\n"
                         "Provides-Extra: dev\\n")
        archive.writestr(f"{NAME}.dist-info/WHEEL",
                         "Wheel-Version: 1.0\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
        archive.writestr(f"{NAME}.dist-info/RECORD", "")
    return wheel
"""
PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]
[project]
name = "pyguixvm"
version = "0"
"""


class Checkout:
    """A checkout in DIRECTORY with what ``tests/venv`` needs, and a pyguixvm that is empty."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        for name in (
            "venv",
            "testbed/packages.sh",
            "testbed/progress.sh",
            "testbed/packages-python",
        ):
            (directory / "tests" / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(TESTS / name, directory / "tests" / name)
        (directory / "backend.py").write_text(BACKEND)
        self.declare("first")
        for module in ("pyguixvm.py", "libvirt.py"):
            (directory / module).touch()
        self.environment = directory / ".venv"
        self.own = self.environment / "somebody's own"

    def declare(self, description: str) -> None:
        """Change what the environment is made from."""
        text = f'{PROJECT}description = "{description}"\n'
        (self.directory / "pyproject.toml").write_text(text)

    def start(self, *options: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [self.directory / "tests/venv", *options],
            stderr=subprocess.PIPE,
            text=True,
            start_new_session=True,
            env={**os.environ, "PYGUIXVM_LOG": str(self.directory / "log")},
        )

    def make(self, *options: str) -> str:
        """Make the environment, and return what was said."""
        with self.start(*options) as run:
            said = run.stderr.read()  # type: ignore[union-attr]
        assert run.returncode == 0, said + (self.directory / "log").read_text()
        return said

    def works(self) -> bool:
        python = self.environment / "bin/python"
        script = "import pyguixvm, pip._internal.cli.main"
        return subprocess.run([python, "-c", script], cwd="/").returncode == 0


@pytest.fixture(scope="module")
def checkout(tmp_path_factory: pytest.TempPathFactory) -> Checkout:
    """Return a checkout whose environment is whole, as each test leaves it again."""
    made = Checkout(tmp_path_factory.mktemp("checkout"))
    assert "installing pyguixvm" in made.make()
    assert made.works()
    return made


def test_what_is_whole_is_left_alone(checkout: Checkout) -> None:
    assert checkout.make() == ""


def test_one_for_the_demo_is_completed_for_the_tests(checkout: Checkout) -> None:
    checkout.own.touch()
    checkout.declare("demonstrated")
    assert "installing pyguixvm" in checkout.make("--demo")
    assert checkout.make("--demo") == ""
    assert "installing pyguixvm" in checkout.make()
    assert checkout.own.exists()
    assert checkout.make("--demo") == ""


def test_one_that_was_broken_off_is_mended(checkout: Checkout) -> None:
    checkout.declare("broken off")
    os.mkfifo(checkout.directory / "hold")
    os.mkfifo(checkout.directory / "reached")
    with checkout.start() as run:
        (checkout.directory / "reached").read_text()
        os.killpg(run.pid, signal.SIGINT)
        said = run.stderr.read()  # type: ignore[union-attr]
    assert run.returncode == 130
    assert "interrupted" in said
    (checkout.directory / "hold").unlink()
    # What pip was doing to itself may be half done, too.
    (internal,) = checkout.environment.glob("lib/python*/site-packages/pip/_internal/cli")
    shutil.rmtree(internal)
    checkout.make()
    assert checkout.works()


def test_one_whose_python_is_gone_is_mended(checkout: Checkout) -> None:
    python = checkout.environment / "bin/python"
    python.unlink()
    python.symlink_to("/nowhere/python")
    checkout.make()
    assert checkout.works()


def test_one_for_another_declaration_is_completed(checkout: Checkout) -> None:
    checkout.own.touch()
    checkout.declare("another")
    assert "installing pyguixvm" in checkout.make()
    assert checkout.own.exists()


def test_one_that_was_made_by_hand_is_completed(checkout: Checkout) -> None:
    checkout.own.touch()
    (checkout.directory / ".venv.record").unlink()
    assert "installing pyguixvm" in checkout.make()
    assert checkout.own.exists()


def test_a_python_that_does_not_do_is_told_with_what_to_install() -> None:
    # As somebody who cannot install it: in a directory that anybody may enter.
    nobody = ["setpriv", "--reuid=nobody", "--clear-groups"] if os.geteuid() == 0 else []
    with tempfile.TemporaryDirectory() as directory:
        checkout = Checkout(Path(directory))
        checkout.directory.chmod(0o755)
        done = subprocess.run(
            [*nobody, checkout.directory / "tests/venv"],
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHON": "/bin/false", "PYGUIXVM_LOG": "/dev/null"},
        )
    assert done.returncode == 1
    assert "install first: /bin/false (or another Python 3.11 or later) with venv" in done.stderr
    assert "python3-venv" in done.stderr

# SPDX-License-Identifier: GPL-3.0-or-later
"""``guix vm`` runs pyguixvm with the very Guix that runs it.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_extension.py``.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from running import Ran, command

pytestmark = pytest.mark.guix

EXTENSION = Path(__file__).parents[2] / "guix/guix/extensions/vm.scm"
# Guix here runs where there is no Python: what stands for pyguixvm says how it was called.
STAND_IN = '#!/bin/sh\necho "$PYGUIXVM_GUIX"\nprintf "%s\\n" "$@"\nexit 8\n'


@pytest.fixture
def extensions(tmp_path: Path) -> Path:
    """The extensions of a profile in which pyguixvm is installed."""
    directory = tmp_path / "share/guix/extensions"
    directory.mkdir(parents=True)
    shutil.copy(EXTENSION, directory)
    program = tmp_path / "bin/pyguixvm"
    program.parent.mkdir()
    program.write_text(STAND_IN)
    program.chmod(0o755)
    return directory


def guix(extensions: Path, *arguments: str) -> Ran:
    return command("guix", *arguments, GUIX_EXTENSIONS_PATH=str(extensions))


def test_arguments_and_exit_status_are_passed_on(extensions: Path) -> None:
    ran = guix(extensions, "vm", "deploy", "my config.scm", "--json")
    guix_program, *arguments = ran.out.splitlines()
    assert ran.status == 8, ran.err
    assert arguments == ["deploy", "my config.scm", "--json"]
    # The one that runs, which the bed starts by a script of its own.
    assert guix_program.endswith("/guix-main.scm")


def test_guix_lists_it(extensions: Path) -> None:
    ran = guix(extensions, "--help")
    assert "vm " in ran.out
    assert "declare virtual machines and run them on libvirt" in ran.out


def test_without_pyguixvm_it_says_so(extensions: Path) -> None:
    (extensions.parents[2] / "bin/pyguixvm").unlink()
    ran = guix(extensions, "vm", "list")
    assert ran.status == 1
    assert "pyguixvm: command not found" in ran.err

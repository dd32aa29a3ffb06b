# SPDX-License-Identifier: GPL-3.0-or-later
"""``guix deploy`` creates, updates and rolls back machines of ``libvirt-environment-type``.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_guix_deploy.py``.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import EXAMPLES, Ran, command, pyguixvm, virsh

pytestmark = pytest.mark.guix

ROOT = Path(__file__).parents[2]
# Guix is in a chroot here: what stands for pyguixvm there runs it outside.
STAND_IN = """#!/bin/sh
unset PYGUIXVM_GUIX
PATH={path}
export PATH
exec chroot /proc/{process}/root env -C "$PWD" {program} "$@"
"""
CONFIG = """
(use-modules (gnu) (gnu machine) (pyguixvm) (pyguixvm machine libvirt)
             (srfi srfi-1))

(define (deployable declared)
  (define os
    (virtual-machine-operating-system declared))
  (machine
    (operating-system
      (operating-system
        (inherit os)
        (issue {issue})))
    (environment libvirt-environment-type)
    (configuration
     (libvirt-configuration
       (inherit declared)
       (ready (list (console "Linux version")))
       (libvirt-domain
         (inherit (virtual-machine-libvirt-domain declared))
         (description "{text}"))))))

(map deployable (take (load "{example}") {count}))
"""

# Its image is made for other tests, too.
AS_IN_THE_EXAMPLE = "(operating-system-issue os)"


@pytest.fixture
def profile(tmp_path: Path) -> Path:
    """A profile in which pyguixvm is installed."""
    made = tmp_path / "profile"
    (made / "bin").mkdir(parents=True)
    program = made / "bin/pyguixvm"
    found = shutil.which("pyguixvm")
    program.write_text(STAND_IN.format(path=os.environ["PATH"], process=os.getpid(), program=found))
    program.chmod(0o755)
    modules = made / "share/guile/site/3.0"
    modules.parent.mkdir(parents=True)
    modules.symlink_to(ROOT / "guix")
    return made


def guix_deploy(profile: Path, *arguments: str | Path) -> Ran:
    return command("guix", "deploy", "--no-grafts", *arguments,
                   GUILE_LOAD_PATH=str(profile / "share/guile/site/3.0"))  # fmt: skip


def current(machine: str) -> int:
    found = pyguixvm("generations", "--json", machine).json["generations"]
    return next(each["number"] for each in found if each["current"])


@pytest.fixture
def two() -> Iterator[None]:
    def remove() -> None:
        for machine in ("web", "db"):
            pyguixvm("undefine", "--yes", "--delete-data", machine)

    remove()
    yield
    remove()


def test_two_machines(tmp_path: Path, profile: Path, two: None) -> None:
    config = tmp_path / "machines.scm"

    def declare(text: str, count: int, issue: str = AS_IN_THE_EXAMPLE) -> None:
        example = EXAMPLES / "two-machines.scm"
        config.write_text(CONFIG.format(text=text, example=example, count=count, issue=issue))

    declare("by guix deploy", 2)
    created = guix_deploy(profile, config)
    assert created.status == 0, created.err
    assert "successfully deployed db" in created.err
    assert (virsh("desc", "web"), virsh("desc", "db")) == ("by guix deploy",) * 2

    # The same file is pyguixvm's as well, and tells the same.
    compared = pyguixvm("status", "--exit-code", config, GUIX_BUILD_OPTIONS="--no-grafts")
    assert compared.status == 0, compared.out

    # A guest that has only begun to boot heeds nobody.
    assert pyguixvm("destroy", "web", "db").status == 0
    declare("again", 1, '"again"')
    updated = guix_deploy(profile, config)
    assert updated.status == 0, updated.err
    assert (current("web"), virsh("desc", "web")) == (2, "again")

    assert pyguixvm("destroy", "web").status == 0
    back = guix_deploy(profile, "--roll-back", config)
    assert back.status == 0, back.err
    assert (current("web"), virsh("desc", "web")) == (1, "by guix deploy")


def test_what_is_wrong_is_told_with_its_place(tmp_path: Path, profile: Path) -> None:
    config = tmp_path / "machines.scm"
    example = EXAMPLES / "two-machines.scm"
    text = CONFIG.format(text="x", example=example, count=1, issue=AS_IN_THE_EXAMPLE)
    config.write_text(text.replace("(description", "(storage 1M) (description"))
    refused = guix_deploy(profile, config)
    assert refused.status == 1
    assert "failed to deploy web" in refused.err
    assert "storage" in refused.err
    command_line = guix_deploy(profile, "-x", config, "--", "true")
    assert command_line.status == 1
    assert "pyguixvm ssh web -- COMMAND" in command_line.err

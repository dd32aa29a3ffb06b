# SPDX-License-Identifier: GPL-3.0-or-later
"""Profiles and channels bring modules along; those of pyguixvm are its own all the same.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_load_path.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from pulled import pulled, repository
from running import Ran, command, pyguixvm

pytestmark = pytest.mark.guix

CONFIG = """
(use-modules (gnu))
(operating-system
  (host-name "NAME")
  (bootloader (bootloader-configuration (bootloader grub-bootloader)
                                        (targets '("/dev/vda"))))
  (file-systems (cons (file-system (mount-point "/") (device "/dev/vda1") (type "ext4"))
                      %base-file-systems)))
"""
OF_PROFILE = """
(define-module (of-profile)
  #:export (%name))
(define %name "{}")
"""
WRONG = '(define-module (pyguixvm))\n(error "the wrong one")\n'


@pytest.fixture(autouse=True)
def ended() -> Iterator[None]:
    command("pyguixvm", "evaluator", "stop")
    yield
    command("pyguixvm", "evaluator", "stop")


def profile(directory: Path, name: str) -> Path:
    """Make a profile with a module of its own, and with another pyguixvm."""
    modules = directory / name / "share/guile/site/3.0"
    modules.mkdir(parents=True)
    (modules / "of-profile.scm").write_text(OF_PROFILE.format(name))
    (modules / "pyguixvm.scm").write_text(WRONG)
    compiled = directory / name / "lib/guile/3.0/site-ccache"
    compiled.mkdir(parents=True)
    (compiled / "pyguixvm.go").write_bytes(b"of another Guix")
    return directory / name


def checked(directory: Path, config: str, **environment: str) -> Ran:
    file = directory / "config.scm"
    file.write_text(config)
    return pyguixvm("check", "--json", file, **environment)


@pytest.mark.parametrize("evaluator", ["on", "off"])
def test_each_request_has_the_modules_of_its_profile(tmp_path: Path, evaluator: str) -> None:
    config = CONFIG.replace('"NAME"', "%name").replace("(gnu)", "(gnu) (of-profile)")
    for name in ("one", "other"):
        made = profile(tmp_path, name)
        ran = checked(
            tmp_path,
            config,
            GUILE_LOAD_PATH=str(made / "share/guile/site/3.0"),
            GUILE_LOAD_COMPILED_PATH=str(made / "lib/guile/3.0/site-ccache"),
            GUIX_ENVIRONMENT=str(made),
            PYGUIXVM_EVALUATOR=evaluator,
        )
        assert ran.status == 0, ran.err
        assert name in ran.out
    without = checked(tmp_path, config, PYGUIXVM_EVALUATOR=evaluator)
    assert without.status == 3
    assert "of-profile" in without.err + without.out
    running = command("pyguixvm", "evaluator", "status", "--json").json["evaluators"]
    assert len(running) == (1 if evaluator == "on" else 0)


def test_a_channel_with_another_pyguixvm_is_not_this_one(tmp_path: Path) -> None:
    guix = repository(tmp_path / "guix")
    channel = repository(tmp_path / "channel")
    program = pulled(
        tmp_path / "profile",
        {
            "guix": (guix, guix.commit({"README": "Guix"})),
            "pyguixvm": (channel, channel.commit({"pyguixvm.scm": WRONG})),
        },
    )
    ran = checked(tmp_path, CONFIG, PYGUIXVM_GUIX=str(program))
    assert ran.status == 0, ran.err

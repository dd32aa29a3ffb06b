# SPDX-License-Identifier: GPL-3.0-or-later
"""Guix speaks the user's language, and is understood nonetheless.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_language.py``.
"""

from __future__ import annotations

import subprocess
import uuid
from pathlib import Path

import pytest
from running import pyguixvm

pytestmark = pytest.mark.guix

# Makes a locale, whose name alone matters, of the C library's own, where Guix runs.
COPY = """\
(use-modules (guix build utils))
(copy-recursively "/usr/lib/locale/C.utf8" "{}" #:log (%make-void-port "w"))
"""


@pytest.fixture(params=["en_US", "de_DE"])
def language(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, str]:
    """What chooses a language: a locale of its name, for which Guix has its catalogue."""
    name = f"{request.param}.UTF-8"
    copy = tmp_path / "copy.scm"
    copy.write_text(COPY.format(tmp_path / "locales" / name))
    subprocess.run(["guix", "repl", copy], check=True)
    return {"LOCPATH": str(tmp_path / "locales"), "LC_ALL": name}


def german(language: dict[str, str]) -> bool:
    return language["LC_ALL"].startswith("de")


SYSTEM = """\
(use-modules (gnu) (guix packages) (guix gexp) (guix build-system trivial))
(operating-system
  (host-name "translated")
  (bootloader (bootloader-configuration
                (bootloader grub-bootloader) (targets '("/dev/vda"))))
  (file-systems (cons (file-system
                        (mount-point "/") (device (file-system-label "Guix_image")) (type "ext4"))
                      %base-file-systems))
  (packages (cons {package} %base-packages)))
"""

FAILING = """\
(package
  (name "failing") (version "1") (source #f) (build-system trivial-build-system)
  (arguments
   (list #:builder #~(begin (display "{unique}: no such luck\\n") (exit 1))))
  (synopsis "Text") (description "Text.") (home-page #f) (license #f))"""


def write(directory: Path, package: str) -> Path:
    config = directory / "config.scm"
    config.write_text(SYSTEM.format(package=package))
    return config


def test_an_unknown_package_is_named(tmp_path: Path, language: dict[str, str]) -> None:
    config = write(tmp_path, '(specification->package "nothing-like-it")')
    ran = pyguixvm("check", "--json", config, **language)
    assert ran.status == 3
    error = ran.json["error"]
    words = "Unbekanntes Paket" if german(language) else "unknown package"
    assert error["message"].lower() == f"nothing-like-it: {words.lower()}"
    assert error["location"] == {"file": str(config), "line": 9, "column": 18}


def test_a_build_that_fails_is_told_with_its_log(tmp_path: Path, language: dict[str, str]) -> None:
    unique = str(uuid.uuid4())
    config = write(tmp_path, FAILING.format(unique=unique))
    ran = pyguixvm("build", "-v", config, **language)
    assert ran.status == 4
    assert f"{unique}: no such luck" in ran.err
    assert "  the whole log: /var/log/guix/drvs/" in ran.err
    assert ("View build log at" in ran.err) == (not german(language))


def test_a_daemon_that_cannot_be_reached_is_named(tmp_path: Path, language: dict[str, str]) -> None:
    config = write(tmp_path, '(specification->package "bash")')
    ran = pyguixvm("build", config, GUIX_DAEMON_SOCKET="/no/such/socket", **language)
    assert ran.status == 4
    assert "/no/such/socket" in ran.err
    assert "Is guix-daemon running?" in ran.err

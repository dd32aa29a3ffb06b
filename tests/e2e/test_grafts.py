# SPDX-License-Identifier: GPL-3.0-or-later
"""Grafts are applied as ``guix system`` applies them, and are built only where that is asked for.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_grafts.py``.
"""

from __future__ import annotations

import os
import subprocess
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest
from running import pyguixvm

from pyguixvm.guix.command import find_guix
from pyguixvm.guix.evaluator import evaluate
from pyguixvm.guix.request import Exchange
from pyguixvm.model.image import SharedStore, SystemImage

pytestmark = pytest.mark.guix

# A package that refers to one with a replacement; nobody has built either.
SYSTEM = """\
(use-modules (gnu) (guix packages) (guix gexp) (guix build-system trivial))
(define* (text-package name version text #:key replacement (inputs '()))
  (package
    (name name) (version version) (source #f) (build-system trivial-build-system)
    (arguments
     (list #:builder
           #~(begin
               (sleep {seconds})
               (mkdir #$output)
               (call-with-output-file (string-append #$output "/text")
                 (lambda (port) (display #$text port))))))
    (inputs inputs)
    (replacement replacement)
    (synopsis "Text") (description "Text.") (home-page #f) (license #f)))
(define safe   (text-package "noted" "2" "{unique} safe"))
(define unsafe (text-package "noted" "1" "{unique} unsafe" #:replacement safe))
(define reader
  (text-package "reader" "1" #~(string-append "{unique} " #$unsafe) #:inputs (list unsafe)))
(operating-system
  (host-name "grafted")
  (bootloader (bootloader-configuration
                (bootloader grub-bootloader) (targets '("/dev/vda"))))
  (file-systems (cons (file-system
                        (mount-point "/") (device (file-system-label "Guix_image")) (type "ext4"))
                      %base-file-systems))
  (packages (cons reader %base-packages)))
"""

ENVIRONMENT = {**os.environ, "GUIX_BUILD_OPTIONS": ""}


def write(directory: Path, *, seconds: int = 0) -> Path:
    config = directory / "config.scm"
    config.write_text(SYSTEM.format(unique=uuid.uuid4(), seconds=seconds))
    return config


def evaluated(
    config: Path,
    *,
    build: bool,
    shared_store: bool = False,
    building: Callable[[], None] = lambda: None,
    seconds: float = 600,
) -> SystemImage | SharedStore:
    exchange = Exchange(find_guix(os.environ), (), ENVIRONMENT)
    (machine,) = evaluate(
        exchange,
        config,
        want="images",
        build=build,
        building=building,
        shared_store=shared_store,
        forward=lambda _: None,
        seconds=seconds,
    ).machines
    assert isinstance(machine.image, SystemImage | SharedStore)
    return machine.image


def guix(config: Path, *options: str) -> str:
    done = subprocess.run(
        ["guix", "system", "image", "-t", "mbr-hybrid-raw", "-d", *options, str(config)],
        check=True, capture_output=True, text=True, env=ENVIRONMENT,
    )  # fmt: skip
    return done.stdout.strip()


def test_grafted_systems_are_those_of_guix_system(tmp_path: Path) -> None:
    config = write(tmp_path)
    built: list[bool] = []

    before = evaluated(config, build=False, building=lambda: built.append(True))
    assert (before.grafted, built) == (False, [])
    grafted = evaluated(config, build=True, building=lambda: built.append(True))
    assert (grafted.grafted, built) == (True, [True])
    # What grafts take is there now: nothing is left to be built.
    after = evaluated(config, build=False, building=lambda: built.append(True))
    assert (after, built) == (grafted, [True])

    assert isinstance(before, SystemImage)
    assert isinstance(grafted, SystemImage)
    assert grafted.derivation == guix(config)
    assert before.derivation == guix(config, "--no-grafts") != grafted.derivation
    assert before.system == grafted.system


def test_a_shared_store_has_grafted_systems(tmp_path: Path) -> None:
    config = write(tmp_path)
    before = evaluated(config, build=False, shared_store=True)
    grafted = evaluated(config, build=True, shared_store=True)
    assert isinstance(before, SharedStore)
    assert isinstance(grafted, SharedStore)
    assert (before.grafted, grafted.grafted) == (False, True)
    assert before.system is not None
    assert before.system != grafted.system
    assert before.system.derivation == before.ungrafted == grafted.ungrafted


def test_what_guix_builds_for_an_evaluation_takes_what_it_takes(tmp_path: Path) -> None:
    config = write(tmp_path)
    evaluated(config, build=False)  # so that an evaluator is there
    config = write(tmp_path, seconds=9)
    built: list[bool] = []
    image = evaluated(config, build=True, building=lambda: built.append(True), seconds=10)
    assert (image.grafted, built) == (True, [True])


def test_plan_status_and_check_build_nothing(tmp_path: Path) -> None:
    config = write(tmp_path, seconds=3600)
    for verb in ("plan", "status", "check"):
        ran = pyguixvm(verb, config, GUIX_BUILD_OPTIONS="")
        assert ran.status == 0, ran.err
    assert "build" not in pyguixvm("status", config, GUIX_BUILD_OPTIONS="").err


def test_an_evaluation_that_builds_is_shown_as_a_build(tmp_path: Path) -> None:
    ran = pyguixvm("build", "-d", write(tmp_path), GUIX_BUILD_OPTIONS="")
    assert ran.status == 0, ran.err
    assert "building; what Guix writes goes to" in ran.err
    words = [line.split()[0].rstrip(":") for line in ran.err.splitlines() if line.strip()]
    assert words.index("built") < words.index("evaluated")

# SPDX-License-Identifier: GPL-3.0-or-later
"""The test bed's packages are Guix's by name, and Debian's by content.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_packages.py``.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from running import command

pytestmark = pytest.mark.guix

TESTS = Path(__file__).parents[1] / "testbed/modules/tests"
# Each with the image type that its boot loader is for.
SYSTEMS = [
    ("base.scm", "mbr-hybrid-raw"),
    ("agent.scm", "qcow2"),
    ("efi.scm", "efi-raw"),
    ("btrfs.scm", "efi-raw"),
    ("grow.scm", "mbr-hybrid-raw"),
]


def derivation(config: str, image_type: str, **environment: str) -> str:
    done = command(
        "guix", "system", "image", "-d", "--no-grafts", "-t", image_type,
        TESTS / "configs" / config, **environment,
    )  # fmt: skip
    assert done.status == 0, done.err
    assert done.out.startswith("/gnu/store/")
    return done.out.strip()


@pytest.mark.parametrize(("config", "image_type"), SYSTEMS)
def test_two_processes_compute_one_derivation(config: str, image_type: str) -> None:
    assert derivation(config, image_type) == derivation(config, image_type)


@pytest.mark.parametrize(("config", "image_type"), SYSTEMS[:1])
def test_a_stock_guix_takes_the_same_configuration(config: str, image_type: str) -> None:
    stock = derivation(config, image_type, PYGUIXVM_TESTBED_PACKAGES="guix")
    assert stock != derivation(config, image_type)


def test_guix_still_has_every_package_that_is_replaced() -> None:
    done = command("guix", "repl", "--", TESTS / "report.scm")
    assert done.status == 0, done.err
    assert "(gnu packages base) coreutils" in done.out
    assert done.out.rstrip().endswith("(missing))"), done.out


def test_a_package_that_nobody_wrapped_is_refused_by_name() -> None:
    done = command("guix", "build", "emacs-minimal")
    assert done.status != 0
    assert "the test bed does not have this package" in done.out + done.err

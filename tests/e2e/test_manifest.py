# SPDX-License-Identifier: GPL-3.0-or-later
"""``guix shell -m manifest.scm`` gives pyguixvm, with stock Guix's own packages."""

from __future__ import annotations

from pathlib import Path

import pytest
from running import Ran, command

ROOT = Path(__file__).parents[2]
# The packages that a user's Guix has, not those that the test bed wraps.
STOCK = {"PYGUIXVM_TESTBED_PACKAGES": "guix"}


def scheme(code: str, directory: Path) -> Ran:
    """Run CODE as a script of guix's."""
    script = directory / "script.scm"
    script.write_text(code)
    return command("guix", "repl", "--", script, **STOCK)


def derivation(directory: Path) -> Ran:
    """Have guix compute what the environment of the manifest is built from."""
    code = (
        "(use-modules (guix) (guix profiles) (guix ui))"
        f'(define manifest (load* "{ROOT}/manifest.scm"'
        " (make-user-module '((guix profiles) (gnu)))))"
        "(with-store store"
        "  (display (derivation-file-name"
        "    (run-with-store store (profile-derivation manifest #:hooks '())))))"
    )
    return scheme(code, directory)


@pytest.fixture(scope="module")
def computed(tmp_path_factory: pytest.TempPathFactory) -> Ran:
    return derivation(tmp_path_factory.mktemp("manifest"))


def test_guix_computes_the_manifests_derivation(computed: Ran) -> None:
    assert computed.status == 0, computed.err
    assert computed.out.startswith("/gnu/store/")
    assert computed.out.endswith("-profile.drv")


def test_what_is_no_part_of_the_package_does_not_change_it(computed: Ran, tmp_path: Path) -> None:
    stray = ROOT / "tests" / "stray-file"
    stray.write_text("not installed\n")
    try:
        assert derivation(tmp_path).out == computed.out
    finally:
        stray.unlink()


def test_the_channels_are_pinned_with_their_introduction(tmp_path: Path) -> None:
    code = (
        f'(use-modules (guix channels)) (define channels (load "{ROOT}/channels.scm"))'
        "(write (map (lambda (channel)"
        "  (list (channel-commit channel) (and (channel-introduction channel) #t))) channels))"
    )
    done = scheme(code, tmp_path)
    assert done.status == 0, done.err
    assert done.out == '(("230aa373f315f247852ee07dff34146e9b480aec" #t))'

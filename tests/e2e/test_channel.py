# SPDX-License-Identifier: GPL-3.0-or-later
"""This repository as a channel of Guix's, and the package in it.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_channel.py``.
"""

from __future__ import annotations

import re
import sys
from pathlib import Path

import pytest
from running import Ran, command

pytestmark = pytest.mark.guix

ROOT = Path(__file__).parents[2]
PACKAGE = ROOT / "guix/pyguixvm-package.scm"
# The packages that a user's Guix has, not those that the test bed wraps; and with memory for
# them all, Guile hardly looks for garbage.
STOCK = {"PYGUIXVM_TESTBED_PACKAGES": "guix", "GC_INITIAL_HEAP_SIZE": "1G"}


def scheme(code: str, directory: Path, **environment: str) -> Ran:
    """Run CODE as a script of guix's."""
    script = directory / "script.scm"
    script.write_text(code)
    return command("guix", "repl", "--", script, **STOCK, **environment)


@pytest.mark.parametrize("directory", [ROOT / "guix", Path("guix")], ids=["absolute", "relative"])
def test_a_scan_of_all_modules_finds_the_package_and_nothing_to_warn_of(directory: Path) -> None:
    look = ("package", "-L", directory, "-A", "^pyguixvm$")
    found = command("guix", *look, directory=ROOT, **STOCK)
    assert found.out.startswith("pyguixvm\t"), found.err
    assert "pyguixvm" not in found.err


def test_the_package_is_as_guix_wants_it() -> None:
    found = command("guix", "lint", "--no-network", "-L", ROOT / "guix", "pyguixvm", **STOCK)
    assert found.status == 0, found.err
    assert "pyguixvm@" not in found.out + found.err


def test_guix_reads_what_the_channel_says_of_itself(tmp_path: Path) -> None:
    code = f"""
    (use-modules (guix channels))
    (define metadata
      ((@@ (guix channels) read-channel-metadata-from-source) "{ROOT}"))
    (define news
      (call-with-input-file
          (string-append "{ROOT}/" ((@@ (guix channels) channel-metadata-news-file) metadata))
        (@@ (guix channels) read-channel-news)))
    (display ((@@ (guix channels) channel-metadata-directory) metadata))
    (newline)
    (for-each (lambda (entry)
                (display ((@@ (guix channels) channel-news-entry-commit) entry))
                (newline))
              ((@@ (guix channels) channel-news-entries) news))
    """
    ran = scheme(code, tmp_path)
    assert ran.status == 0, ran.err
    directory, *commits = ran.out.split()
    assert directory == "/guix"
    assert commits
    assert all(re.fullmatch("[0-9a-f]{40}", commit) for commit in commits)


def test_guix_compiles_its_modules_as_those_of_any_channel(tmp_path: Path) -> None:
    """By the code of ``guix pull``, which loads each of them on its own."""
    code = f"""
    (use-modules (guix build compile) (guix build utils) (system base optimize))
    ;; How far they are optimized says nothing of them, and takes most of the time.
    (compile-files "{ROOT}/guix" "{tmp_path}/go" (find-files "{ROOT}/guix" "\\\\.scm$")
                   #:optimization-options (const (optimizations-for-level 1)))
    """
    ran = scheme(code, tmp_path)
    assert ran.status == 0, ran.err
    compiled = {file.relative_to(tmp_path / "go") for file in (tmp_path / "go").rglob("*.go")}
    sources = {file.relative_to(ROOT / "guix") for file in (ROOT / "guix").rglob("*.scm")}
    assert compiled == {file.with_suffix(".go") for file in sources}


def test_the_package_installs_modules_that_guix_sees_compiled(tmp_path: Path) -> None:
    """What the phase does that stands in the package, with the modules of the checkout."""
    modules, compiled = tmp_path / "share/guile/site/3.0", tmp_path / "lib/guile/3.0/site-ccache"
    code = f"""
    (use-modules (guix build utils) (guix gexp) (guix packages) (ice-9 match) (srfi srfi-1))
    (define package
      (load "{ROOT}/guix/pyguixvm-package.scm"))
    (define phases
      (apply (lambda* (#:key phases #:allow-other-keys)
               (gexp->approximate-sexp phases))
             (package-arguments package)))
    (define install
      (any (match-lambda
             (('add-after ''install ''install-modules ('lambda _ ('let* bindings body ...)))
              (last body))
             (_ #f))
           phases))
    (match install
      (('invoke "guile" "--no-auto-compile" "-L" 'modules "-c" ('object->string expression))
       (copy-recursively "{ROOT}/guix/pyguixvm" "{modules}/pyguixvm"
                         #:log (%make-void-port "w"))
       (copy-file "{ROOT}/guix/pyguixvm.scm" "{modules}/pyguixvm.scm")
       (add-to-load-path "{modules}")
       (eval (eval `(let ((modules "{modules}") (compiled "{compiled}")) ,expression)
                   (current-module))
             (current-module))))
    """
    ran = scheme(code, tmp_path)
    assert ran.status == 0, ran.err
    assert len(list(compiled.rglob("*.go"))) == len(list(modules.rglob("*.scm")))

    seen = scheme(
        "(use-modules (pyguixvm) (pyguixvm services exporter))"
        '(display (search-path %load-compiled-path "pyguixvm/machine.go"))'
        '(newline) (write (virtual-machine-name (virtual-machine (name "seen"))))',
        tmp_path,
        GUILE_LOAD_PATH=str(modules),
        GUILE_LOAD_COMPILED_PATH=str(compiled),
    )
    assert seen.out.splitlines() == [str(compiled / "pyguixvm/machine.go"), '"seen"'], seen.err


def test_what_the_package_selects_of_the_checkout_is_enough(tmp_path: Path) -> None:
    """Its build and its tests find all they take, as far as that shows without running them."""
    # Of what is no origin, 'guix build --source' makes nothing but a backtrace.
    code = f"""
    (use-modules (guix gexp) (guix packages) (guix store))
    (display (with-store store
               (run-with-store store
                 (lower-object (package-source (load "{PACKAGE}"))))))
    """
    source = scheme(code, tmp_path)
    assert source.status == 0, source.err
    checkout, python = Path(source.out.strip()), Path(sys.executable)
    pip = (python, "-m", "pip", "--quiet", "--disable-pip-version-check")
    offline = ("--no-index", "--no-deps")
    made = command(*pip, "wheel", *offline, "--no-build-isolation", "-w", tmp_path, checkout)
    assert made.status == 0, made.err
    (wheel,) = tmp_path.glob("*.whl")
    installed = tmp_path / "installed"
    done = command(*pip, "install", *offline, "--target", installed, wheel)
    assert done.status == 0, done.err

    for directory, files in (
        ("pyguixvm/scheme/pyguixvm", ROOT / "guix/pyguixvm"),
        ("pyguixvm", ROOT / "pyguixvm"),
        ("share/guix/extensions", ROOT / "guix/guix/extensions"),
    ):
        wanted = {
            file.relative_to(files)
            for file in files.rglob("*")
            if file.is_file() and file.suffix != ".pyc"
        }
        assert not {file for file in wanted if not (installed / directory / file).is_file()}
    assert (installed / "share/man/man1/pyguixvm.1").is_file()

    (flags,) = re.findall(r"'\(((?:\"\w+\"\s*)+)\)", PACKAGE.read_text())
    left_out = (f"--ignore=tests/unit/test_{name}.py" for name in re.findall(r"\w+", flags))
    collected = command(
        python, "-P", "-m", "pytest", "--collect-only", "-q", "-p", "no:cacheprovider",
        "tests/unit", *left_out, directory=checkout, PYTHONPATH=str(installed),
    )  # fmt: skip
    assert collected.status == 0, collected.out
    ran = command(python, "-P", "-m", "pyguixvm", "--version", PYTHONPATH=str(installed))
    assert ran.out.startswith("pyguixvm, version"), ran.err

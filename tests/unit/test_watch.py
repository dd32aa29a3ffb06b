# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a save."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from pyguixvm.watch import is_source, watching

SOON = 5.0
NOT_AT_ALL = 0.5


def write(config: Path) -> None:
    config.write_text("new")


def rename_over(config: Path) -> None:
    """Save as Emacs and git do: write another file, put it in place of the old one."""
    other = config.with_name("#config.scm#")
    other.write_text("new")
    other.rename(config)


def back_up_and_write(config: Path) -> None:
    """Save as Vim does: probe the directory, move the old file away, write a new one."""
    probe = config.with_name("4913")
    probe.touch()
    probe.unlink()
    backup = config.with_name("config.scm~")
    config.rename(backup)
    config.write_text("new")
    backup.unlink()


def touch(config: Path) -> None:
    config.touch()


def beside(config: Path) -> None:
    config.with_name("common.scm").write_text("(define …)")


def log(config: Path) -> None:
    config.with_name("log.txt").write_text("what watch itself prints")


def in_a_module(config: Path) -> None:
    (config.parent / "modules/my/services").mkdir(parents=True)
    (config.parent / "modules/my/services/web.scm").write_text("(define-module …)")


def remove(config: Path) -> None:
    config.unlink()


def read(config: Path) -> None:
    config.read_text()


def swap(config: Path) -> None:
    config.with_name(".config.scm.swp").write_text("vim")
    config.with_name(".#config.scm").symlink_to("emacs@host")


def below(config: Path) -> None:
    (config.parent / "images").mkdir()
    (config.parent / "images/disk.qcow2").write_text("not on the load path")


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (write, True),
        (rename_over, True),
        (back_up_and_write, True),
        (touch, True),
        (beside, True),
        (in_a_module, True),
        (remove, True),
        (log, False),
        (read, False),
        (swap, False),
        (below, False),
    ],
)
def test_saves(tmp_path: Path, act: Callable[[Path], None], seen: bool) -> None:
    config = tmp_path / "config.scm"
    config.write_text("old")
    (tmp_path / "modules").mkdir()
    with watching(config, [tmp_path / "modules"]) as changes:
        act(config)
        assert changes.wait(SOON if seen else NOT_AT_ALL) is seen


def test_what_comes_at_once_is_one_change(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    with watching(config) as changes:
        for number in range(20):
            config.write_text(str(number))
        assert changes.wait(SOON)
        assert not changes.wait(NOT_AT_ALL)
        config.write_text("later")
        assert changes.wait(SOON)


@pytest.mark.parametrize(
    ("name", "source"),
    [
        ("config.scm", True),
        ("config.scm~", False),
        ("#config.scm#", False),
        (".#config.scm", False),
        (".config.scm.swp", False),
        ("4913", False),
        ("log", False),
        ("", False),
    ],
)
def test_files_that_count(name: str, source: bool) -> None:
    assert is_source(name) is source

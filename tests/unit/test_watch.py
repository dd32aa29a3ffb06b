# SPDX-License-Identifier: GPL-3.0-or-later
"""What counts as a save."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import pytest

from pyguixvm import watch
from pyguixvm.errors import RequestRefusedError
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


def another_scheme_file(config: Path) -> None:
    beside(config)


def a_module(config: Path) -> None:
    (config.parent / "elsewhere/lib.scm").write_text("(define-module …)")


def a_file_in_a_directory(config: Path) -> None:
    (config.parent / "elsewhere/site/deep/page.html").write_text("new")


def a_missing_file(config: Path) -> None:
    (config.parent / "elsewhere/missing.txt").write_text("there now")


def a_missing_file_with_its_directory(config: Path) -> None:
    (config.parent / "elsewhere/no/such").mkdir(parents=True)
    (config.parent / "elsewhere/no/such/file.txt").write_text("there now")


def its_neighbour(config: Path) -> None:
    (config.parent / "elsewhere/neighbour.txt").write_text("new")


@pytest.mark.parametrize(
    ("act", "seen"),
    [
        (write, True),
        (rename_over, True),
        (a_module, True),
        (a_file_in_a_directory, True),
        (a_missing_file, True),
        (a_missing_file_with_its_directory, True),
        (its_neighbour, False),
        (another_scheme_file, False),
    ],
)
def test_what_is_depended_on_counts_and_nothing_else(
    tmp_path: Path, act: Callable[[Path], None], seen: bool
) -> None:
    config = tmp_path / "config.scm"
    config.write_text("old")
    elsewhere = tmp_path / "elsewhere"
    (elsewhere / "site/deep").mkdir(parents=True)
    (elsewhere / "lib.scm").write_text("old")
    files = ["lib.scm", "site", "missing.txt", "no/such/file.txt"]
    with watching(config) as changes:
        names = [str(config), *(str(elsewhere / name) for name in files)]
        changes.follow(names, complete=True, since=time.time() + 60)
        act(config)
        assert changes.wait(SOON if seen else NOT_AT_ALL) is seen


def test_an_evaluation_that_failed_may_depend_on_more(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    config.write_text("old")
    with watching(config) as changes:
        changes.follow([str(config)], complete=False, since=time.time() + 60)
        beside(config)
        assert changes.wait(SOON)


def test_what_was_saved_before_it_was_watched_is_not_lost(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    config.write_text("old")
    note = tmp_path / "elsewhere" / "note.txt"
    note.parent.mkdir()
    begun = time.time() - 1
    note.write_text("saved while it was evaluated")
    with watching(config) as changes:
        changes.follow([str(config), str(note)], complete=True, since=begun)
        assert changes.wait(SOON)


def test_the_first_save_after_each_wait_is_told_at_once(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    told = []
    with watching(config) as changes:
        changes.saved = lambda: told.append("saved")
        for _ in range(2):
            for number in range(5):
                config.write_text(str(number))
            assert changes.wait(SOON)
    assert told == ["saved", "saved"]


@pytest.mark.parametrize(
    ("number", "limit"),
    [
        (errno.EMFILE, "fs.inotify.max_user_instances"),
        (errno.ENOSPC, "fs.inotify.max_user_watches"),
    ],
)
def test_the_limit_that_forbids_to_watch_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, limit: str
) -> None:
    def refused() -> NoReturn:
        raise OSError(number, "limit reached")

    monkeypatch.setattr(watch, "Observer", refused)
    with pytest.raises(RequestRefusedError, match=limit) as error, watching(tmp_path / "a.scm"):
        pass
    assert f"sysctl -w {limit}=" in (error.value.hint or "")

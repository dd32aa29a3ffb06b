# SPDX-License-Identifier: GPL-3.0-or-later
"""However editors and git write, one save is one change: their own operations, in their order."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from pyguixvm import watch
from pyguixvm.watch import watching

SOON = 5.0
# Longer than what belongs to one change, and than watchdog takes to tell.
NOT_AT_ALL = 0.5

Save = Callable[[Path], None]


def vim_renaming(config: Path) -> None:
    """With 'backupcopy=no': the old file becomes the backup, a new one takes its name."""
    probe = config.with_name("4913")
    probe.touch()
    probe.unlink()
    backup = config.with_name(f"{config.name}~")
    config.rename(backup)
    written(config, "vim")
    os.chmod(config, 0o644)  # noqa: PTH101 -- as vim does, by name
    backup.unlink()


def vim_in_place(config: Path) -> None:
    """With 'backupcopy=yes': the backup is a copy, the file is emptied and written."""
    backup = config.with_name(f"{config.name}~")
    backup.write_text(config.read_text())
    written(config, "vim")
    backup.unlink()


def vim_with_a_swap_file(config: Path) -> None:
    swap = config.with_name(f".{config.name}.swp")
    swap.write_text("b0VIM")
    vim_renaming(config)
    swap.unlink()


def emacs(config: Path) -> None:
    """A lock while the buffer is changed, an auto-save file, a backup, the file itself."""
    lock = config.with_name(f".#{config.name}")
    lock.symlink_to("me@host.4711:1")
    auto = config.with_name(f"#{config.name}#")
    auto.write_text("emacs")
    config.rename(config.with_name(f"{config.name}~"))
    written(config, "emacs")
    auto.unlink()
    lock.unlink()


def emacs_precious(config: Path) -> None:
    """With 'file-precious-flag': written elsewhere, renamed over the file."""
    new = config.with_name(f"{config.name}tmpXYZ")
    written(new, "emacs")
    new.rename(config)


def touch(config: Path) -> None:
    subprocess.run(["touch", config], check=True)


def shell(config: Path) -> None:
    subprocess.run(["sh", "-c", 'echo new > "$0"', config], check=True)


def sed(config: Path) -> None:
    subprocess.run(["sed", "-i", "s/old/new/", config], check=True)


def checkout(config: Path) -> None:
    """Have git bring several files of another branch at once."""
    git(config.parent, "checkout", "--quiet", "other")


def stash(config: Path) -> None:
    config.write_text("unfinished")
    git(config.parent, "stash", "--quiet")


def save_all(config: Path) -> None:
    """Save several files as fast as an editor can."""
    for number in range(10):
        vim_renaming(config.with_name(f"part{number}.scm"))
    vim_renaming(config)


def slowly(config: Path) -> None:
    """Write in pieces, as over a network: each piece soon after the other."""
    with config.open("w") as file:
        for _ in range(10):
            file.write("piece\n")
            file.flush()
            time.sleep(0.005)


def written(path: Path, text: str) -> None:
    with path.open("w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())


def git(directory: Path, *arguments: str) -> None:
    identity = {"GIT_CONFIG_GLOBAL": "/dev/null", "GIT_CONFIG_SYSTEM": "/dev/null"}
    subprocess.run(
        ["git", "-c", "user.name=me", "-c", "user.email=me@host", *arguments],
        cwd=directory,
        check=True,
        env={**os.environ, **identity},
        capture_output=True,
    )


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Return a configuration of eleven files under git, which differ on branch other."""
    for branch, text in (("main", "old"), ("other", "new")):
        if branch == "main":
            git(tmp_path, "init", "--quiet", "--initial-branch", branch)
        else:
            git(tmp_path, "checkout", "--quiet", "-b", branch)
        for name in ["config.scm", *(f"part{number}.scm" for number in range(10))]:
            (tmp_path / name).write_text(text)
        git(tmp_path, "add", ".")
        git(tmp_path, "commit", "--quiet", "--message", branch)
    git(tmp_path, "checkout", "--quiet", "main")
    return tmp_path / "config.scm"


@pytest.fixture(autouse=True)
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a busy machine, the steps of one save are further apart than those of an editor."""
    monkeypatch.setattr(watch, "QUIET_SECONDS", 0.3)


@pytest.mark.parametrize("complete", [True, False], ids=["evaluated", "failed"])
@pytest.mark.parametrize(
    "save",
    [
        vim_renaming,
        vim_in_place,
        vim_with_a_swap_file,
        emacs,
        emacs_precious,
        touch,
        shell,
        sed,
        checkout,
        stash,
        save_all,
        slowly,
    ],
)
def test_a_save_is_one_change(config: Path, save: Save, complete: bool) -> None:
    told: list[float] = []
    with watching(config) as changes:
        depends = [str(config), *(str(part) for part in config.parent.glob("part*.scm"))]
        changes.follow(depends, complete=complete, since=time.time() + 60)
        changes.saved = lambda: told.append(time.monotonic())
        save(config)
        assert changes.wait(SOON)
        assert not changes.wait(NOT_AT_ALL)
    assert len(told) == 1


def test_saves_apart_are_changes_apart(config: Path) -> None:
    with watching(config) as changes:
        for save in (checkout, vim_renaming, emacs):
            save(config)
            assert changes.wait(SOON), save.__name__
            assert not changes.wait(NOT_AT_ALL), save.__name__


def test_a_config_that_is_deleted_and_made_anew_is_seen_both_times(config: Path) -> None:
    with watching(config) as changes:
        changes.follow([str(config)], complete=True, since=time.time() + 60)
        config.unlink()
        assert changes.wait(SOON)
        config.write_text("back again")
        assert changes.wait(SOON)
        vim_renaming(config)
        assert changes.wait(SOON)


def test_a_dependency_is_seen_when_its_whole_directory_was_made_anew(tmp_path: Path) -> None:
    config = tmp_path / "config.scm"
    config.write_text("old")
    part = tmp_path / "lib/deep/part.scm"
    part.parent.mkdir(parents=True)
    part.write_text("old")
    with watching(config) as changes:
        changes.follow([str(config), str(part)], complete=True, since=time.time() + 60)
        for path in (part, part.parent, part.parent.parent):
            path.unlink() if path.is_file() else path.rmdir()
        assert changes.wait(SOON)
        # As after the evaluation that fails now.
        changes.follow([], complete=False, since=time.time())
        part.parent.mkdir(parents=True)
        part.write_text("back again")
        assert changes.wait(SOON)
        changes.follow([str(part)], complete=True, since=time.time() + 60)
        vim_renaming(part)
        assert changes.wait(SOON)


def test_a_failed_evaluation_adds_what_it_came_to_and_forgets_nothing(tmp_path: Path) -> None:
    config, old, new = (tmp_path / name for name in ("config.scm", "a/old.txt", "b/new.txt"))
    for path in (config, old, new):
        path.parent.mkdir(exist_ok=True)
        path.write_text("old")
    with watching(config) as changes:
        changes.follow([str(old)], complete=True, since=time.time() + 60)
        changes.follow([str(new)], complete=False, since=time.time() + 60)
        for path in (old, new):
            emacs_precious(path)
            assert changes.wait(SOON), path
        # Once it succeeds, what it does not depend on any more is left alone.
        changes.follow([str(new)], complete=True, since=time.time() + 60)
        emacs_precious(old)
        assert not changes.wait(NOT_AT_ALL)

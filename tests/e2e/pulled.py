# SPDX-License-Identifier: GPL-3.0-or-later
"""A Guix as ``guix pull`` leaves it: a profile that says of which commits it was made."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

ENTRY = """
  ("{name}" "{commit}" "out" "{item}"
   (properties
    ((source (repository (version 0)
                         (url "{url}")
                         (branch "master")
                         (commit "{commit}"))))))"""


@dataclass(frozen=True)
class Repository:
    """A Git repository in DIRECTORY, which is of this test alone."""

    directory: Path

    def git(self, *arguments: str) -> str:
        who = ("-c", "user.name=test", "-c", "user.email=test@localhost")
        done = subprocess.run(
            ["git", *who, *arguments],
            cwd=self.directory,
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout.strip()

    def commit(self, files: Mapping[str, str]) -> str:
        """Commit FILES, texts by their names; return the commit."""
        for name, text in files.items():
            file = self.directory / name
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        self.git("add", "--all")
        self.git("commit", "--quiet", "--allow-empty", "--message", "A change.")
        return self.git("rev-parse", "HEAD")


def repository(directory: Path) -> Repository:
    """Return a new repository in DIRECTORY."""
    directory.mkdir(parents=True)
    made = Repository(directory)
    made.git("init", "--quiet", "--initial-branch=master")
    return made


def pulled(profile: Path, channels: Mapping[str, tuple[Repository, str]]) -> Path:
    """Make PROFILE, of CHANNELS by name, each at a commit; return the guix in it.

    It is the bed's Guix, whatever the commit of "guix"; the modules of the others are those
    of their commits.
    """
    entries = []
    for name, (source, commit) in channels.items():
        item = profile.with_name(f"{profile.name}-{name}")
        modules = item / "share/guile/site/3.0"
        modules.mkdir(parents=True)
        source.git("--work-tree", str(modules), "checkout", "--force", commit, "--", ".")
        source.git("reset", "--hard", "--quiet")
        entries.append(ENTRY.format(name=name, commit=commit, item=item, url=source.directory))
    (profile / "bin").mkdir(parents=True)
    (profile / "manifest").write_text(f"(manifest (version 4) (packages ({''.join(entries)})))\n")
    return _guix(profile / "bin/guix")


def _guix(program: Path) -> Path:
    """Make PROGRAM the bed's guix, such that Guix takes it for the one of a profile."""
    bed = shutil.which("guix")
    assert bed is not None
    text = Path(bed).read_text()
    main = '-s "$modules/guix-main.scm"'
    assert main in text
    # For the shell it ends there, and for Guile it begins there.
    modules = next(line for line in text.splitlines() if line.startswith("modules="))
    directory = modules.removeprefix("modules=")
    program.write_text(
        f'{text.replace(main, f"-s {program}")}exit\n!#\n(load "{directory}/guix-main.scm")\n'
    )
    program.chmod(0o755)
    return program

# SPDX-License-Identifier: GPL-3.0-or-later
"""Each generation remembers the commits that it is of, and older ones do not take its place.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_provenance.py``.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boot_sector
import msgspec
import pytest
from pulled import Repository, pulled, repository
from running import Ran, command, pyguixvm

from pyguixvm.commands.evaluate import evaluate
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore

pytestmark = pytest.mark.guix

MIB = 1024**2
MACHINE = "of-commits"
TITLES = """
(define-module (titles)
  #:export (%title))
(define %title "{}")
"""
CONFIG = """
(use-modules (titles))
(virtual-machine
  (name "of-commits")
  (image (local-image "{image}"))
  (libvirt-domain (title %title) (memory 64M) (storage 16M))
  (ready (list (console "up"))))
"""


@dataclass(frozen=True)
class Pulled:
    """Two channels, a repository of a configuration, and profiles of commits of them."""

    directory: Path
    cache: Path
    guix: Repository
    titles: Repository
    infra: Repository

    @property
    def config(self) -> Path:
        return self.infra.directory / "config.scm"

    def run(self, *arguments: str | Path, guix: str, titles: str) -> Ran:
        """Run pyguixvm by the Guix of commit GUIX, with TITLES of the other channel."""
        profile = self.directory / f"profile-{guix[:7]}-{titles[:7]}"
        program = profile / "bin/guix"
        if not program.exists():
            pulled(profile, {"guix": (self.guix, guix), "titles": (self.titles, titles)})
        return pyguixvm(*arguments, PYGUIXVM_GUIX=str(program), XDG_CACHE_HOME=str(self.cache))

    def generation(self) -> Any:
        found = pyguixvm("generations", "--json", MACHINE).json["generations"]
        return next(each for each in found if each["current"])


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where Guix has its clones of channels, which are not for the user's cache."""
    return tmp_path_factory.mktemp("cache")


@pytest.fixture
def channels(tmp_path: Path, cache: Path, clean: Callable[[str], None]) -> Iterator[Pulled]:
    clean(MACHINE)
    image = tmp_path / "disk.raw"
    image.write_bytes(boot_sector.halting())
    with image.open("ab") as file:
        file.truncate(16 * MIB)
    made = Pulled(
        tmp_path,
        cache,
        repository(tmp_path / "guix"),
        repository(tmp_path / "titles"),
        repository(tmp_path / "infra"),
    )
    made.infra.commit({"config.scm": CONFIG.format(image=image)})
    yield made
    command("pyguixvm", "evaluator", "stop")


def handed_over(channels: Pulled, config: Path, *, known_as: Path, guix: str, titles: str) -> Path:
    """Return what 'guix deploy' hands over of CONFIG, whose system is KNOWN_AS that file."""
    assert channels.run("check", config, guix=guix, titles=titles).status == 0
    environment = {
        **os.environ,
        "PYGUIXVM_GUIX": str(channels.directory / f"profile-{guix[:7]}-{titles[:7]}/bin/guix"),
        "XDG_CACHE_HOME": str(channels.cache),
    }
    here = Session(None, (), environment, ignore, lambda _: None)
    deployment = msgspec.structs.replace(
        evaluate(here, config, want="images"), config=str(known_as)
    )
    file = channels.directory / "deployment.json"
    file.write_bytes(msgspec.json.encode({"deployment": deployment}))
    return file


def test_a_generation_remembers_channels_and_configuration(channels: Pulled) -> None:
    guix = channels.guix.commit({"README": "Guix"})
    titles = channels.titles.commit({"titles.scm": TITLES.format("first")})
    infra = channels.infra.git("rev-parse", "HEAD")
    deployed = channels.run("deploy", channels.config, guix=guix, titles=titles)
    assert deployed.status == 0, deployed.err
    assert channels.generation()["provenance"] == {
        "channels": [
            {"name": name, "url": str(source.directory), "branch": "master", "commit": commit}
            for name, source, commit in (
                ("guix", channels.guix, guix),
                ("titles", channels.titles, titles),
            )
        ],
        "configuration": {
            "directory": f"{channels.infra.directory}/",
            "url": None,
            "commit": infra,
            "modified": False,
        },
    }
    shown = pyguixvm("generations", MACHINE).out
    assert f"{infra[:7]}, guix {guix[:7]}, titles {titles[:7]}" in shown

    # A change by another commit of a channel, and of the configuration without one.
    newer = channels.titles.commit({"titles.scm": TITLES.format("second")})
    channels.config.write_text(channels.config.read_text() + "\n")
    deployed = channels.run("deploy", channels.config, guix=guix, titles=newer)
    assert deployed.status == 0, deployed.err
    now = channels.generation()["provenance"]
    assert [each["commit"] for each in now["channels"]] == [guix, newer]
    assert now["configuration"]["modified"] is True


def test_older_commits_are_refused(channels: Pulled) -> None:
    old = channels.guix.commit({"README": "Guix"})
    new = channels.guix.commit({"README": "Guix, newer"})
    first = channels.titles.commit({"titles.scm": TITLES.format("first")})
    second = channels.titles.commit({"titles.scm": TITLES.format("second")})
    assert channels.run("deploy", channels.config, guix=new, titles=second).status == 0

    for guix, titles, words in (
        (new, first, f"commit {second[:7]} of channel 'titles', and {first[:7]}"),
        (old, first, f"commit {new[:7]} of channel 'guix', and {old[:7]}"),
    ):
        for verb in ("plan", "deploy"):
            refused = channels.run(verb, channels.config, guix=guix, titles=titles)
            assert refused.status == 1
            assert words in refused.err + refused.out
            assert "--allow-downgrades" in refused.err + refused.out
    # What changes nothing may be of older commits.
    assert channels.run("deploy", channels.config, guix=old, titles=second).status == 0
    assert channels.generation()["provenance"]["channels"][0]["commit"] == new

    allowed = ("deploy", "--allow-downgrades", channels.config)
    assert channels.run(*allowed, guix=old, titles=first).status == 0
    assert channels.generation()["provenance"]["channels"][1]["commit"] == first
    assert channels.run("deploy", channels.config, guix=new, titles=second).status == 0


def test_an_older_configuration_is_refused(channels: Pulled) -> None:
    commits = {
        "guix": channels.guix.commit({"README": "Guix"}),
        "titles": channels.titles.commit({"titles.scm": TITLES.format("first")}),
    }
    text = channels.config.read_text()
    newer = text.replace("%title", '"mine"')
    channels.infra.commit({"config.scm": newer})
    assert channels.run("deploy", channels.config, **commits).status == 0

    # Another clone, which has not fetched that.
    clone = Repository(channels.directory / "clone")
    channels.infra.git("clone", "--quiet", ".", str(clone.directory))
    clone.git("reset", "--quiet", "--hard", "HEAD~")
    for config in (channels.config, clone.directory / "config.scm"):
        if config == channels.config:
            channels.infra.git("reset", "--quiet", "--hard", "HEAD~")
        refused = channels.run("deploy", config, **commits)
        assert refused.status == 1
        assert "of its configuration" in refused.err
        assert "git pull" in refused.err

    # A commit that takes the place of that one is no older one.
    channels.infra.commit({"config.scm": text.replace("%title", '"amended"')})
    amended = channels.run("deploy", channels.config, **commits)
    assert amended.status == 0, amended.err


@pytest.mark.parametrize("name", ["config.scm", "of-commits"])
def test_an_older_configuration_is_refused_that_guix_deploy_evaluated(
    channels: Pulled, name: str
) -> None:
    """By the repository in which it lies, not by where it is handed over; it may be no file."""
    commits = {
        "guix": channels.guix.commit({"README": "Guix"}),
        "titles": channels.titles.commit({"titles.scm": TITLES.format("first")}),
    }
    text = channels.config.read_text()
    channels.infra.commit({"config.scm": text.replace("%title", '"mine"')})
    assert channels.run("deploy", channels.config, **commits).status == 0
    channels.infra.git("reset", "--quiet", "--hard", "HEAD~")
    known_as = channels.infra.directory / name
    file = handed_over(channels, channels.config, known_as=known_as, **commits)
    refused = channels.run("deploy", file, MACHINE, **commits)
    assert refused.status == 1, refused.err
    assert "of its configuration" in refused.err

# SPDX-License-Identifier: GPL-3.0-or-later
"""README.md keeps its word: its file is deployed, by its commands, in their order."""

from __future__ import annotations

import re
import signal
import subprocess
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from running import Ran, command, pyguixvm

AS_USERS_HAVE_IT = True
ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
# Each command of README.md, and what proves it.
PROVEN = {
    "pyguixvm check": "here",
    "pyguixvm plan": "here",
    "pyguixvm deploy": "here",
    "pyguixvm watch": "here",
    "pyguixvm status config.scm": "here",
    "./demo": "tests/fresh/test",
    "./check": "tests/fresh/test",
    "guix shell -m manifest.scm -- pyguixvm deploy": "test_manifest.py",
    "guix shell -m manifest.scm -- guix time-machine -C channels.scm -- vm deploy": (
        "test_extension.py"
    ),
    'eval "$(_PYGUIXVM_COMPLETE=bash_source pyguixvm)"': "here",
    'eval "$(_PYGUIXVM_COMPLETE=zsh_source pyguixvm)"': "here",
    "_PYGUIXVM_COMPLETE=fish_source pyguixvm | source": "here",
}


def commands() -> list[str]:
    """Return the commands that README.md shows, without what is said about them."""
    lines = re.findall(
        r"^    (\S.*)$", re.sub(r"```.*?```", "", README, flags=re.DOTALL), re.MULTILINE
    )
    return [line.partition(" #")[0].rstrip() for line in lines]


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a directory that holds config.scm as README.md has it, and nothing else."""
    found = re.search(r"```scheme\n;; config\.scm\n(.*?)```", README, re.DOTALL)
    assert found
    directory = tmp_path_factory.mktemp("readme")
    (directory / "config.scm").write_text(found[1])
    pyguixvm("undefine", "--yes", "web")
    yield directory
    pyguixvm("undefine", "--yes", "web")


def run(line: str, place: Path) -> Ran:
    return command(*line.split(), directory=place)


def test_nothing_is_promised_that_is_not_proven() -> None:
    assert set(commands()) == set(PROVEN)


def test_one_command_after_the_other_does_what_is_said_of_it(place: Path) -> None:
    assert commands()[:6] == [
        "pyguixvm check", "pyguixvm plan", "pyguixvm deploy", "pyguixvm deploy", "pyguixvm watch",
        "pyguixvm status config.scm",
    ]  # fmt: skip
    check, plan, deploy, again, _, status = commands()[:6]
    checked = run(check, place)
    assert checked.out.startswith("web: 2 CPU, 2G memory, 10G storage, "), checked.err
    planned = run(plan, place)
    assert planned.out.startswith("+ web: create"), planned.err
    deployed = run(deploy, place)
    assert deployed.status == 0, deployed.err
    assert re.match(r"web deployed: address [0-9a-f.:]+", deployed.out)
    assert run(again, place).out == "web unchanged, nothing to do\n"
    told = run(status, place)
    assert re.match(r"  web: deployed, generation 1, [0-9a-f.:]+", told.out)
    assert run(f"{status} --exit-code", place).status == 0


def test_watch_deploys_on_every_save(place: Path) -> None:
    config = place / "config.scm"
    with subprocess.Popen(
        ["pyguixvm", "watch"],
        cwd=place,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as watching:
        ending = threading.Timer(600, watching.kill)
        ending.start()
        assert watching.stdout is not None
        said = []
        for line in watching.stdout:
            said.append(line)
            if "waiting for" in line and "to be saved" in line:
                if any("web updated" in earlier for earlier in said):
                    watching.send_signal(signal.SIGINT)
                else:
                    saved = config.read_text().replace("(cpu 2)", '(cpu 2)\n    (title "A web")')
                    config.write_text(saved)
        ending.cancel()
        assert watching.wait() == 130, said
    assert any("domain.title" in line for line in said)
    assert '"A web"' in config.read_text()


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_a_shell_learns_how_to_complete(shell: str) -> None:
    told = command("pyguixvm", _PYGUIXVM_COMPLETE=f"{shell}_source")
    assert told.status == 0
    assert "_PYGUIXVM_COMPLETE" in told.out
    if shell == "bash":
        line = next(line for line in commands() if "bash_source" in line)
        evaluated = command("bash", "-c", f"{line}\ncomplete -p pyguixvm")
        assert evaluated.out.startswith("complete "), evaluated.err

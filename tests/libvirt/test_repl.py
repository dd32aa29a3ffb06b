# SPDX-License-Identifier: GPL-3.0-or-later
"""The hypervisor, by hand."""

import subprocess
import sys
from pathlib import Path

import pytest

SYSTEM = "qemu:///system"


def repl(text, *options):
    return subprocess.run(
        [sys.executable, "-m", "pyguixvm", "-c", SYSTEM, "repl", *options],
        cwd=Path(__file__).parents[2], input=text, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


@pytest.mark.parametrize(
    ("text", "options"),
    [
        ("list --all --name", ()),
        ("print(sorted(machines), machines[{name!r}].state)", ("--python",)),
        ("print(connection.lookupByName({name!r}).name())", ("--python",)),
    ],
)
def test_it_knows_the_machines_there(deployed, text, options):
    name = deployed().name
    done = repl(text.format(name=name) + "\n", *options)
    assert done.returncode == 0, done.stderr
    assert name in done.stdout

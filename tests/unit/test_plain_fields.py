# SPDX-License-Identifier: GPL-3.0-or-later
"""A field that only goes into the domain's XML takes one line."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
PACKAGE = HERE.parents[1] / "pyguixvm"
TITLE = "    title: "
# One of each kind: an attribute, a number, and a Boolean further down.
MORE = """\
    boot_colour: Annotated[Literal["red", "blue"] | None, InXml("x-boot/@colour", "restart")] = None
    sound_volume: Annotated[int | None, InXml("x-volume", "live")] = None
    cold: Annotated[bool, InXml("x-boot/x-how/@cold", "restart", booleans=("off", "on"))] = False
"""
NUMBER = "<x-volume>11</x-volume>"


def test_one_line_is_written_updated_compared_and_shown(tmp_path: Path) -> None:
    copy = shutil.copytree(
        PACKAGE, tmp_path / "pyguixvm", ignore=shutil.ignore_patterns("__pycache__")
    )
    declaration = copy / "model/declaration.py"
    text = declaration.read_text()
    assert text.count(TITLE) == 1
    declaration.write_text(text.replace(TITLE, MORE + TITLE))
    done = subprocess.run(
        [sys.executable, HERE / "with_more_fields.py"],
        env={"PYTHONPATH": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    became = json.loads(done.stdout)
    assert became.pop("package") == str(copy / "__init__.py")
    red = '<x-boot colour="red"><x-how cold="on"/></x-boot>'
    colour, volume, cold = (
        "domain.boot-colour: not set -> red",
        "domain.sound-volume: not set -> 11",
        "domain.cold: off -> on",
    )
    assert became == {
        "written": [red, NUMBER],
        "updated": [red, NUMBER],
        "taken back": ['<x-boot><x-how cold="off"/></x-boot>'],
        "as declared": [],
        "running": [f"{colour} (restart)", f"{volume} (live)", f"{cold} (restart)"],
        "pending": [f"{colour} (pending until restart)", f"{cold} (pending until restart)"],
        "off": [f"{colour} (live)", f"{volume} (live)", f"{cold} (live)"],
        "no longer declared": [
            "domain.boot-colour: red -> not set (restart)",
            "domain.sound-volume: 11 -> not set (live)",
            "domain.cold: on -> off (restart)",
        ],
    }

# SPDX-License-Identifier: GPL-3.0-or-later
"""Structures are read by many threads, from the first one on."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[2] / "pyguixvm"

# What the inner one is made of is not known before another thread has had its chance.
TWO_AT_ONCE = """
import threading, msgspec
from pyguixvm.decoding import convert, decode, made_of

def read():
    {read}

other = threading.Thread(target=read)

def number():
    if not other.ident:
        other.start()
        other.join(0.3)
    return int

class Inner(msgspec.Struct):
    field: "number()"

class Outer(msgspec.Struct):
    inner: Inner

read()
other.join()
"""


@pytest.mark.parametrize(
    "read",
    [
        "assert convert({'inner': {'field': 7}}, Outer).inner.field == 7",
        """assert decode(b'{"inner": {"field": 7}}', Outer).inner.field == 7""",
        "assert made_of(Outer).cls is Outer",
    ],
)
def test_who_reads_the_first_one_is_not_disturbed(read: str) -> None:
    code = TWO_AT_ONCE.replace("{read}", read)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


def test_nothing_else_reads_structures() -> None:
    others = re.compile(r"msgspec\.(json\.decode|json\.Decoder|convert)\(|type_info\(")
    found = [
        path.name
        for path in PACKAGE.rglob("*.py")
        if path.name != "decoding.py" and others.search(path.read_text())
    ]
    assert found == []

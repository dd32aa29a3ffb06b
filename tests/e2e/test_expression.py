# SPDX-License-Identifier: GPL-3.0-or-later
"""A configuration is given as an expression, as Guix's commands take it.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_expression.py``.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import boot_sector
import pytest
from pulled import Repository, repository
from running import pyguixvm

pytestmark = pytest.mark.guix

MACHINE = "of-an-expression"
FLEET = """
(define* (machine #:key (title "usual"))
  (virtual-machine
    (name "of-an-expression")
    (image (local-image "disk.raw"))
    (libvirt-domain (title title) (memory 64M) (storage 16M))
    (ready '())))
(define web (virtual-machine (inherit (machine)) (name "web")))
(list (machine) web)
"""


@pytest.fixture
def fleet(tmp_path: Path) -> Repository:
    """The directory in which expressions are evaluated: the repository of what they load."""
    made = repository(tmp_path / "fleet")
    made.commit({"fleet.scm": FLEET})
    image = boot_sector.on_disk(boot_sector.halting())
    (made.directory / "disk.raw").write_bytes(image)
    return made


def test_a_machine_is_deployed_of_an_expression(
    fleet: Repository, clean: Callable[[str], None]
) -> None:
    clean(MACHINE)
    where = {"directory": fleet.directory}
    expression = '(load "fleet.scm") (machine #:title "first")'
    deployed = pyguixvm("deploy", "-e", expression, **where)
    assert deployed.status == 0, deployed.err
    (made,) = pyguixvm("generations", "--json", MACHINE).json["generations"]
    assert made["provenance"]["configuration"]["commit"] == fleet.git("rev-parse", "HEAD")

    # Of several machines those that are named; and it is the machine that the file declares.
    planned = pyguixvm("plan", "--json", '--expression=(load "fleet.scm")', MACHINE, **where)
    (plan,) = planned.json["plans"]
    (other,) = plan["machines"]
    assert other["machine"] == MACHINE
    assert "title" in str(other)
    same = pyguixvm("status", "--exit-code", "-e", expression, **where)
    assert same.status == 0, same.out


def test_what_an_expression_may_say(fleet: Repository) -> None:
    where = {"directory": fleet.directory}
    # As for Guix's commands, gexps need no module; a file is not given them by these either.
    gexp = '#~(list) (load "fleet.scm")'
    checked = pyguixvm("check", "--json", "-e", gexp, "web", **where)
    assert checked.status == 0, checked.err
    assert checked.json["config"] == f"-e {gexp}"
    assert [each["name"] for each in checked.json["machines"]] == ["web"]

    (fleet.directory / "gexp.scm").write_text(gexp)
    assert pyguixvm("check", "gexp.scm", **where).status == 3


@pytest.mark.parametrize(
    ("expression", "place", "words"),
    [
        ("(virtual-machine\n  (nam 1))", "-e:2:2", "nam"),
        ('(list\n (load "no-such.scm"))', "-e:2:1", "/no-such.scm"),
        ("(list (machine)", "-e:1:16", "missing closing parenthesis"),
        ("", "-e:1:0", "the expression is empty"),
        ("42", "-e:1:0", "the last expression gives 42"),
    ],
)
def test_errors_have_their_place(
    fleet: Repository, expression: str, place: str, words: str
) -> None:
    refused = pyguixvm("check", "-e", expression, directory=fleet.directory)
    assert refused.status == 3
    assert f"{fleet.directory}/{place}: " in refused.err
    assert words in refused.err


def test_what_takes_no_expression(fleet: Repository) -> None:
    both = pyguixvm("plan", "fleet.scm", "-e", "(machine)", directory=fleet.directory)
    assert both.status == 2
    assert "both fleet.scm and an expression" in both.err
    watched = pyguixvm("watch", "-e", '(load "fleet.scm")', directory=fleet.directory)
    assert watched.status == 2
    assert "an expression never is" in watched.err

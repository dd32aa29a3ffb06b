# SPDX-License-Identifier: GPL-3.0-or-later
"""The first root of a machine, where others were made before."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path

from running import CONFIGS, Ran, collected, gc_roots, pyguixvm, virsh

from pyguixvm.commands.deploy import deploy
from pyguixvm.commands.evaluate import evaluate
from pyguixvm.commands.planning import observed
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore

CONFIG = CONFIGS / "change.scm"
# Nobody waits for its guest.
DECLARED = {"PYGUIXVM_TEST_UNSEEN": "yes"}


def named(name: str, mac: str, edition: str) -> dict[str, str]:
    changes = {"NAME": name, "MAC": mac, "EDITION": edition}
    return {**DECLARED, **{f"PYGUIXVM_TEST_{key}": value for key, value in changes.items()}}


def deployed(declared: dict[str, str]) -> tuple[Ran, str]:
    """Deploy what is DECLARED; return what was said, and the image that its root stands on."""
    ran = pyguixvm("deploy", CONFIG, **declared)
    assert ran.status == 0, ran.err
    return ran, current_image(declared["PYGUIXVM_TEST_NAME"])


def current_image(machine: str) -> str:
    (generation,) = pyguixvm("generations", machine, "--json").json["generations"]
    return str(generation["image"])


def test_it_stands_on_the_image_of_a_machine_that_is_gone(
    tmp_path: Path, clean: Callable[[str], None]
) -> None:
    """Until that is collected, be it at the last moment: it is nobody's."""
    state = {"XDG_STATE_HOME": str(tmp_path)}
    before = named("before", "52:54:00:ab:cd:31", "of a first root") | state
    after = named("after", "52:54:00:ab:cd:32", "of another one") | state
    for name in ("before", "after"):
        clean(name)
    ran, image = deployed(before)
    assert "before: create, assembled" in ran.err
    # That it is known by then changes nothing for the machine that it was made for.
    assert ran.err.count("built: ") == 1, ran.err
    assert pyguixvm("undefine", "--yes", "before", **state).status == 0

    ran, stands_on = deployed(after)
    assert "after: create, increment: an image of another system" in ran.err
    assert stands_on == image
    assert image in virsh("dumpxml", "after")
    # It is that machine's now.
    assert str((gc_roots("after") / "1").readlink()) == image
    assert not collected(image)
    assert pyguixvm("undefine", "--yes", "after", **state).status == 0

    session = Session(None, (), {**os.environ, **after}, ignore, sys.stderr.buffer.write)
    machines = evaluate(session, CONFIG, want="images").machines
    with observed(session, machines) as planned:
        ((plan,),) = (each.plan.machines for each in planned)
        assert plan.strategy == "increment"
        assert collected(image)
        (outcome,) = deploy(session, CONFIG, planned)
    assert outcome.error is None
    assert current_image("after") != image

# SPDX-License-Identifier: GPL-3.0-or-later
"""Running pyguixvm as a user does, in the test bed."""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from pyguixvm.cli.documents import OF_VERBS, Failed
from pyguixvm.guix.roots import directory_name
from pyguixvm.model.hypervisor import Hypervisor

CONFIGS = Path(__file__).parent / "configs"
MODULES = CONFIGS.with_name("modules")
EXAMPLES = Path(__file__).parents[2] / "examples"


@dataclass(frozen=True)
class Ran:
    """How a command ended."""

    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


def command(*argv: str | Path, directory: Path | None = None, **environment: str) -> Ran:
    done = subprocess.run(
        [str(word) for word in argv],
        capture_output=True,
        text=True,
        cwd=directory,
        env={**os.environ, **environment},
        timeout=1500,
        stdin=subprocess.DEVNULL,
    )
    return Ran(done.returncode, done.stdout, done.stderr)


def pyguixvm(*arguments: str | Path, **options: Any) -> Ran:
    ran = command("pyguixvm", *arguments, **options)
    if "--json" in arguments:
        document = OF_VERBS[str(arguments[0])]
        failed = ran.json.keys() - {"errors"} == {"schema", "error"}
        msgspec.json.decode(ran.out, type=Failed if failed else document, strict=True)
    return ran


def virsh(*arguments: str) -> str:
    done = command("virsh", "-q", "-c", "qemu:///system", *arguments)
    assert done.status == 0, done.err
    return done.out.strip()


def gc_roots(machine: str) -> Path:
    """Return where root has the links that protect what MACHINE stands on."""
    here = directory_name(Hypervisor(None, "", "qemu", "/system"))
    return Path("/var/guix/gcroots/pyguixvm") / here / virsh("domuuid", machine)


def collected(item: str) -> bool:
    """Have Guix's garbage collector take ITEM, and only that; return whether it did."""
    ran = command("guix", "gc", "--delete", item)
    assert (ran.status == 0) != ("still alive" in ran.err), ran.err
    return ran.status == 0

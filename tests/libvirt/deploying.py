# SPDX-License-Identifier: GPL-3.0-or-later
"""Deploy machines whose guests say a word on the serial line and halt, and ask virsh."""

import shlex
import subprocess
from pathlib import Path

import msgspec
import pytest

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.commands.session import Session
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.observe import Depth, observe
from pyguixvm.model.applied import Generation, Metadata
from pyguixvm.model.image import LocalImage
from pyguixvm.plan.plan import Policy
from pyguixvm.plan.planner import plan

MIB = 1024**2


def some_metadata(machine):
    generation = Generation(
        number=1,
        date="2026-01-31T12:00:00Z",
        label="test",
        pool="p",
        volume="v",
        image="/image",
        declaration=machine,
    )
    return Metadata(current=1, generations=(generation,))


def with_image(machine, image):
    with image.open("ab") as file:
        file.truncate(16 * MIB)
    modified = int(image.stat().st_mtime)
    local = LocalImage(path=str(image), format="raw", size=16 * MIB, modified=modified)
    return msgspec.structs.replace(machine, image=local)


def changed(machine, **fields):
    domain = msgspec.structs.replace(machine.domain, **fields)
    return msgspec.structs.replace(machine, domain=domain)


def renewed(machine, directory):
    """Return MACHINE with another image, which means another root volume."""
    image = directory / "another.raw"
    image.write_bytes(Path(machine.image.path).read_bytes())
    return with_image(machine, image)


def planned(connection, machine, **policy):
    (made,) = plan([machine], observe(connection, Depth.RECORDS), policy=Policy(**policy)).machines
    return made


def deploy(connection, machine, emit=ignore, **policy):
    """Deploy MACHINE; return what was an error."""
    made = plan([machine], observe(connection, Depth.RECORDS), policy=Policy(**policy))
    store = Store(lambda: pytest.fail("Guix is not needed"), ignore)
    workshop = Workshop(connection, emit, {"PYGUIXVM_VIRT_TYPE": "qemu"}, store)
    (outcome,) = apply(made, workshop)
    return outcome.error


def session(tmp_path):
    environment = {"XDG_STATE_HOME": str(tmp_path / "state"), "PYGUIXVM_VIRT_TYPE": "qemu"}
    return Session("qemu:///system", (), environment, ignore, ignore)


def take_away(*names):
    """Power domains of NAMES off and undefine them, those that there are."""
    for name in set(names) & set(virsh("list --all --name").split()):
        if name in virsh("list --name").split():
            virsh(f"destroy {name}")
        virsh(f"undefine {name}")


def virsh(command):
    done = subprocess.run(
        ["virsh", "-q", *shlex.split(command)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout

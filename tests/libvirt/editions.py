# SPDX-License-Identifier: GPL-3.0-or-later
"""Editions of a machine whose tiny guest runs, and what is asked of that guest."""

import base64
import json
import subprocess
import time
from pathlib import Path

import libvirt_qemu
import msgspec
import pytest
from deploying import with_image
from program import ran

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.executor import apply
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor import domains, volumes
from pyguixvm.model.image import Derivation, ImageContent, SystemImage
from pyguixvm.model.volume_names import generation_volume
from pyguixvm.plan.actions import DefineDomain, StartDomain, StopDomain
from pyguixvm.plan.plan import MachinePlan, Plan

MIB = 1024**2
UPDATE = Path(__file__).with_name("update_once.py")
KILLED = ("sh", "-c", "kill -KILL $UPDATE_PROCESS")
UUID = "11111111-2222-3333-4444-555555555555"


def system(edition):
    derivation = Derivation(derivation=f"/gnu/store/{edition}.drv", output=f"/gnu/store/{edition}")
    return SystemImage(
        host_name="tiny", label=edition, kernel="linux", image_type="mbr-hybrid-raw",
        derivation=f"/gnu/store/{edition}-image.drv", output=f"/gnu/store/{edition}-image",
        system=f"/gnu/store/{edition}.drv",
        content=ImageContent(
            layout="layout", root_uuid=UUID if edition == "one" else "another",
            system=derivation, boot_configuration=derivation, boot_configuration_file="/grub.cfg",
        ),
    )  # fmt: skip


def declared(machine, name):
    return msgspec.structs.replace(machine, image=system(name))


def run_first(connection, machine, directory):
    """Have MACHINE, which is defined, run as the edition "one"; its image is made in DIRECTORY."""
    first = domains.read_metadata(connection, machine.name)
    first = first.having(
        msgspec.structs.replace(
            first.generation,
            pool=machine.domain.pool,
            volume=generation_volume(machine.name, 1),
        )
    )
    domains.write_metadata(connection, machine.name, first)
    run_script(UPDATE, with_image(machine, directory / "image.raw"), "never")
    # From here on it passes for one that was made of an operating-system.
    metadata = domains.read_metadata(connection, machine.name)
    made = msgspec.structs.replace(
        metadata.generation, declaration=declared(machine, "one"), label="one", kernel="linux"
    )
    domains.write_metadata(connection, machine.name, metadata.having(made))


def run_script(script, machine, event, *command, check=True):
    done = ran(script, msgspec.json.encode(machine).decode(), event, *command)
    assert not check or done.returncode == 0, done.stderr
    return done


def run(connection, name, command):
    """Have the guest run the shell's COMMAND; return what it wrote."""

    def ask(execute, **arguments):
        request = json.dumps({"execute": execute, "arguments": arguments})
        handle = connection.handle.lookupByName(name)
        return json.loads(libvirt_qemu.qemuAgentCommand(handle, request, 30, 0))["return"]

    started = ask(
        "guest-exec", **{"path": "/bin/sh", "arg": ["-c", command], "capture-output": True}
    )
    deadline = time.monotonic() + 60
    while not (status := ask("guest-exec-status", pid=started["pid"]))["exited"]:
        assert time.monotonic() < deadline
        time.sleep(0.1)
    assert status["exitcode"] == 0, status
    return base64.b64decode(status.get("out-data", "")).decode()


def write(connection, name, text):
    run(connection, name, f"printf {text} | dd of=/dev/vda conv=notrunc,fsync")


def read(connection, name):
    return run(connection, name, "dd if=/dev/vda bs=6 count=1")


def booted(connection, name):
    return run(connection, name, "cat /proc/sys/kernel/random/boot_id")


def content(connection, pool, volume, directory):
    """Return what a guest would read first from VOLUME, which may be in use."""
    path = volumes.lookup(connection, pool, volume).path
    raw = directory / "content.raw"
    subprocess.run(["qemu-img", "convert", "-U", "-f", "qcow2", "-O", "raw", path, raw], check=True)
    with raw.open("rb") as file:
        return file.read(6).decode()


def return_to(connection, name, number):
    """Return to generation NUMBER as a roll-back does."""
    metadata = domains.read_metadata(connection, name)
    machine = metadata.find(number).declaration
    actions = (
        StopDomain(timeout=60, force=False),
        DefineDomain(generation=number, autostart=False),
        StartDomain(timeout=120),
    )
    back = MachinePlan(machine=machine, effect="replace", actions=actions, fallback=number)
    store = Store(lambda: pytest.fail("Guix is not needed"), ignore)
    workshop = Workshop(connection, ignore, {"PYGUIXVM_VIRT_TYPE": "qemu"}, store)
    (outcome,) = apply(Plan(uri=connection.uri, machines=(back,)), workshop)
    assert outcome.error is None, outcome.error

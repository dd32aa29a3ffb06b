# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter as a service: of systemd, and of a Guix System's Shepherd."""

import os
import re
import shutil
import socket
import subprocess
import sys
import sysconfig
import time
from contextlib import suppress
from pathlib import Path

import pytest
from exporting import Exporter
from processes import each_process

HERE = Path(__file__).parent
USER = "pyguixvm-exporter"
# That of under-shepherd and under-systemd.
UID = 5
UNIT = "pyguixvm-exporter.service"


@pytest.fixture
def unit(tmp_path):
    file = tmp_path / UNIT
    printed = ["pyguixvm", "exporter", "--print", "systemd"]
    file.write_text(subprocess.run(printed, capture_output=True, text=True, check=True).stdout)
    return file


def analyze(*arguments):
    done = subprocess.run(["systemd-analyze", *arguments], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def test_systemd_finds_nothing_wrong_with_the_unit(unit):
    assert analyze("verify", "--man=no", unit) == ""


def test_systemd_gives_the_service_little(unit):
    told = analyze("security", "--offline=yes", "--no-pager", unit)
    exposure = re.search(r"Overall exposure level for \S+: ([0-9.]+)", told)
    # Of 10; what is left is its network, and what it may read.
    assert float(exposure[1]) < 5
    for setting in ("User=/DynamicUser=", "NoNewPrivileges=", "ProtectSystem="):
        assert re.search(rf"✓ {setting}", told), setting


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def said(log):
    return log.read_text() if log.exists() else ""


def run_by(uid):
    """Return the processes of the account UID."""
    return [each.pid for each in each_process() if each.owner == uid]


def watched(asked, machine, log):
    """Wait until the exporter that is ASKED knows that MACHINE is as declared; LOG is its own."""
    declared = ("pyguixvm_machine_as_declared", "qemu:///system", machine.name)
    deadline = time.monotonic() + 60
    found = {}
    while found.get(declared) != 1:
        assert time.monotonic() < deadline, (said(log), found)
        with suppress(OSError):
            found = asked.samples()
        time.sleep(0.2)
    assert found["pyguixvm_hypervisor_up", "qemu:///system"] == 1
    # What guests run is not for whoever may only look.
    assert ("pyguixvm_machine_guest_as_deployed", "qemu:///system", machine.name) not in found


def test_systemd_runs_it_as_a_user_of_its_own_who_only_looks(halting, unit, tmp_path):
    log, program = tmp_path / "log", tmp_path / "pyguixvm"
    # Where the unit lets it see them.
    taken = (sys.base_prefix, HERE.parents[1], sysconfig.get_path("purelib"))
    path = [f"/run/systemd/kept/{number}" for number in (2, 3)]
    python = f"PYTHONPATH={':'.join(path)} exec {sys.base_prefix}/bin/python3"
    program.write_text(f'#!/bin/sh\n{python} -m pyguixvm "$@"\n')
    program.chmod(0o755)
    systemd = subprocess.Popen([HERE / "under-systemd", unit, program, log, *taken])
    try:
        watched(Exporter(systemd, 9177), halting, log)
        assert run_by(UID)
    finally:
        # Its namespace ends with it, and all in there.
        systemd.kill()
        systemd.wait()


@pytest.mark.guix
def test_a_shepherd_runs_it_as_a_user_of_its_own_who_only_looks(halting, tmp_path):
    package, port = tmp_path / "package/bin", free_port()
    package.mkdir(parents=True)
    program = package / "pyguixvm"
    program.write_text(f'#!/bin/sh\nexec {shutil.which("pyguixvm")} "$@"\n')
    program.chmod(0o755)
    made = subprocess.run(
        ["guix", "build", "--no-grafts", "-L", HERE.parent.parent / "guix",
         "-f", HERE / "exporter-shepherd.scm"],
        capture_output=True, text=True,
        env=os.environ | {
            "PYGUIXVM_TEST_PACKAGE": str(package.parent),
            "PYGUIXVM_TEST_LISTEN": f"127.0.0.1:{port}",
            "PYGUIXVM_TEST_DIRECTORY": str(tmp_path),
        },
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    shepherd = subprocess.Popen(
        [HERE / "under-shepherd", made.stdout.strip(), USER, sys.base_prefix]
    )
    try:
        watched(Exporter(shepherd, port), halting, tmp_path / "log")
        assert run_by(UID)
    finally:
        # Its namespace ends with it, and all in there.
        shepherd.kill()
        shepherd.wait()
    deadline = time.monotonic() + 60
    while run_by(UID):
        assert time.monotonic() < deadline
        time.sleep(0.2)

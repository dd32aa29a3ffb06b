# SPDX-License-Identifier: GPL-3.0-or-later
"""What status tells of machines at a real libvirtd, once and as long as somebody looks."""

import dataclasses
import json
import os
import subprocess
import threading
import time
from contextlib import contextmanager

import boot_sector
import msgspec
from counting import requests
from deploying import MIB, changed, deploy, planned, renewed, session, virsh, with_image
from exporting import exporter
from fleet import fleet
from relay import relayed

from pyguixvm.commands.status import Asked, applied_statuses, measured
from pyguixvm.commands.status_watch import looks
from pyguixvm.errors import HypervisorError
from pyguixvm.hypervisor.connection import connect
from pyguixvm.hypervisor.statistics import statistics
from pyguixvm.model.declaration import ConsoleReady


def test_what_a_machine_uses_and_who_deployed_it(halting, tmp_path):
    here = session(tmp_path)
    (found,) = applied_statuses(here, [halting.name])
    used = found.statistics
    assert used.cpu_seconds > 0
    assert used.memory == halting.domain.memory
    assert {disk.target for disk in used.disks} == {"vda", "vdb"}
    (root,) = (disk for disk in used.disks if disk.target == "vda")
    assert root.capacity == halting.domain.storage
    assert root.allocation is not None
    assert [interface.received_bytes is not None for interface in used.interfaces] == [True]
    assert found.space.name == halting.domain.pool
    assert found.space.available > 0
    assert found.deploy.ended == "ready"
    assert "@" in found.deploy.by
    assert 0 < found.deploy.seconds < 600
    (rates,) = measured(here, Asked(names=(halting.name,)), [found]).values()
    assert rates.cpu is not None
    assert rates.received is not None


def last_deploy(machine, tmp_path):
    (found,) = applied_statuses(session(tmp_path), [machine.name])
    return found


def test_the_last_deploy_tells_of_a_change_that_no_boot_ends(connection, halting, tmp_path):
    assert deploy(connection, changed(halting, title="another")) is None
    found = last_deploy(halting, tmp_path).deploy
    assert (found.generation, found.ended) == (1, "ready")
    assert 0 <= found.seconds < 600


def test_the_last_deploy_tells_of_one_that_failed(connection, halting, tmp_path):
    def breaking(event):
        if getattr(event, "phase", "") == "update":
            raise HypervisorError("it went wrong")

    more = changed(halting, memory=halting.domain.memory - 4 * MIB)
    assert deploy(connection, more, emit=breaking) is not None
    found = last_deploy(halting, tmp_path)
    assert found.deploy.ended == "failed"
    assert 0 <= found.deploy.seconds < 600
    # Its guest is the one that was seen ready.
    assert found.ready
    deploys = ("pyguixvm_machine_deploys_total", "failed", halting.name)
    with exporter(tmp_path) as asked:
        assert asked.wait(lambda samples: samples.get(deploys))[deploys] == 1
    # Its guest has no balloon: there is nothing left to do.
    assert deploy(connection, more) is None
    assert last_deploy(halting, tmp_path).deploy.ended == "ready"
    assert planned(connection, more).actions == ()


def test_the_last_deploy_tells_of_one_whose_guest_never_got_ready(connection, halting, tmp_path):
    silent = msgspec.structs.replace(
        renewed(halting, tmp_path), ready=(ConsoleReady("never"),), ready_timeout=1
    )
    assert deploy(connection, silent, force=True, stop_timeout=1).status == 6
    found = last_deploy(halting, tmp_path)
    assert (found.deploy.generation, found.deploy.ended) == (2, "rolled back")
    assert found.deploy.seconds >= 1
    assert found.ready


def test_what_a_guest_without_an_agent_booted_is_known_from_its_console(
    connection, halting, tmp_path
):
    system = f"/gnu/store/{'a' * 32}-system"
    image = tmp_path / "speaking.raw"
    said = f"making '{system}' the current system...\r\nup\r\n"
    image.write_bytes(boot_sector.heeding_button(said))
    assert deploy(connection, with_image(halting, image), force=True, stop_timeout=1) is None
    (found,) = applied_statuses(session(tmp_path), [halting.name])
    # Nothing tells what it runs since then, nor which system is in an image that others made.
    assert (found.booted, found.inside, found.guest.verdict) == (system, None, "unknown")
    # Another guest, whom nobody heard, booted who knows what.
    virsh(f"destroy {halting.name}")
    virsh(f"start {halting.name}")
    (found,) = applied_statuses(session(tmp_path), [halting.name])
    assert (found.state, found.booted) == ("running", None)


def test_why_a_machine_is_paused(halting, tmp_path):
    virsh(f"suspend {halting.name}")
    (found,) = applied_statuses(session(tmp_path), [halting.name])
    assert (found.status, found.reason) == ("stopped", "by somebody")
    virsh(f"destroy {halting.name}")
    (found,) = applied_statuses(session(tmp_path), [halting.name])
    assert (found.state, found.reason) == ("shut off", "powered off by somebody")


def test_one_request_tells_what_all_domains_use(halting, tmp_path):
    with fleet(tmp_path, 50) as uri:
        for each in (uri, "qemu:///system"):
            with connect(each) as connection, requests() as counts:
                assert statistics(connection)
            assert sum(counts.values()) == 1, counts


def test_a_fleet_is_as_applied(tmp_path):
    with fleet(tmp_path, 200) as uri:
        here = dataclasses.replace(session(tmp_path), uri=uri)
        found = applied_statuses(here, [])
    assert [each.status for each in found] == ["deployed"] * 200


@contextmanager
def watching(*arguments, **environment):
    """Yield a process that watches as ARGUMENTS say."""
    process = subprocess.Popen(
        ["pyguixvm", "-c", "qemu:///system", "status", "--watch", *arguments],
        stdout=subprocess.PIPE,
        text=True,
        env=os.environ | environment,
    )
    try:
        yield process
    finally:
        process.terminate()
        process.wait()
        process.stdout.close()


def test_what_changes_is_told_as_it_happens(halting, tmp_path):
    told = tmp_path / "told"
    command = f'echo "$PYGUIXVM_MACHINE $PYGUIXVM_BEFORE $PYGUIXVM_STATUS" >> {told}'
    with watching("--json", halting.name, "--on-change", command) as process:
        first = json.loads(process.stdout.readline())
        assert first["machines"][0]["status"] == "deployed"
        virsh(f"suspend {halting.name}")
        second = json.loads(process.stdout.readline())
        assert second["machines"][0]["reason"] == "by somebody"
        virsh(f"resume {halting.name}")
        third = json.loads(process.stdout.readline())
        assert third["machines"][0]["status"] == "deployed"
        deadline = time.monotonic() + 120
        while told.read_text().count("\n") < 2:
            assert time.monotonic() < deadline
            time.sleep(0.1)
    assert told.read_text().splitlines() == [
        f"{halting.name} deployed stopped",
        f"{halting.name} stopped deployed",
    ]


class Listening:
    """Waits until something happens, for SECONDS at most, and knows whether it did."""

    def __init__(self, seconds):
        self.seconds = seconds
        self.heard = False

    def __call__(self, happened, _seconds):
        self.heard = happened.wait(self.seconds)


def test_what_changes_is_heard_and_not_only_looked_at(halting, tmp_path):
    listening = Listening(120)
    seen = looks(session(tmp_path), Asked(names=(halting.name,)), listening)
    assert next(seen).found[0].status == "deployed"
    virsh(f"suspend {halting.name}")
    assert next(seen).found[0].reason == "by somebody"
    assert listening.heard
    seen.close()


def test_a_line_that_is_cut_is_told_and_found_again(halting, tmp_path):
    line, listening = tmp_path / "line", Listening(1)
    here = session(tmp_path)
    with relayed(line, later=0, rate=0) as relay:
        here = dataclasses.replace(here, uri=relay.uri)
        asked = Asked(names=(halting.name,))
        seen = looks(here, asked, listening)
        assert next(seen).found[0].status == "deployed"
        relay.cut()
        assert next(seen).error is not None
    with relayed(line, later=0, rate=0):
        virsh(f"suspend {halting.name}")
        assert next(seen).found[0].reason == "by somebody"
        # It is heard again, too, and not only looked at.
        listening.seconds = 120
        threading.Timer(0.5, virsh, [f"resume {halting.name}"]).start()
        assert next(seen).found[0].status == "deployed"
        assert listening.heard
        seen.close()


def test_a_command_that_nothing_would_run_is_refused():
    done = subprocess.run(
        ["pyguixvm", "-c", "test:///default", "status", "--on-change", "true"],
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2
    assert "--watch" in done.stderr


def test_what_was_seen_once_is_written_for_prometheus_and_people(halting, tmp_path):
    page = tmp_path / "machines.html"
    command = ["pyguixvm", "-c", "qemu:///system", "status"]
    done = subprocess.run(
        [*command, "--prometheus", "--html", page], capture_output=True, text=True, check=True
    )
    subprocess.run(["promtool", "check", "metrics"], input=done.stdout, text=True, check=True)
    label = f'{{hypervisor="qemu:///system",machine="{halting.name}"}}'
    assert f"pyguixvm_machine_as_declared{label} 1.0" in done.stdout
    assert "libvirt_domain_block_stats_allocation_bytes{" in done.stdout
    assert halting.name in page.read_text()
    # Whole by itself, and nothing in it does anything.
    assert "<style>" in page.read_text()
    assert "<script" not in page.read_text()
    done = subprocess.run([*command, "--html", "/nowhere/x.html"], capture_output=True, text=True)
    assert (done.returncode, "cannot write /nowhere/x.html" in done.stderr) == (2, True)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's page in a real browser."""

import os
import signal
from contextlib import ExitStack, closing
from pathlib import Path

import boot_sector
import pytest
from browsing import browser
from deploying import MIB, virsh
from exporting import exporter
from fleet import fleet

WIDE = "document.documentElement.scrollWidth <= window.innerWidth"
MACHINES = "document.querySelectorAll('#machines tbody tr').length"
STALE = "document.getElementById('content').classList.contains('stale')"
ABOUT_FOCUS = "document.activeElement === document.body ? null : document.activeElement.outerHTML"
NAMED = {"link", "button", "heading", "region", "image", "columnheader", "rowheader"}
BACK = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture
def tab(tmp_path):
    with browser(tmp_path) as opened:
        yield opened


@pytest.fixture
def pictures(tmp_path):
    """Where pictures of the page are left, for whoever wants to see it."""
    directory = Path(os.environ.get("PYGUIXVM_SCREENSHOTS", tmp_path))
    directory.mkdir(parents=True, exist_ok=True)
    return directory


def looked_at(tab, asked, count, pictures, scene):
    """See that the page of SCENE with COUNT machines fits, and leave pictures of it."""
    backs = set()
    for width in (1280, 390):
        for scheme in ("light", "dark"):
            tab.open(f"http://127.0.0.1:{asked.port}/", width=width, scheme=scheme)
            tab.wait(f"document.readyState == 'complete' && {MACHINES} >= {count}")
            assert tab.value(WIDE), (width, scheme)
            backs.add((scheme, tab.value(BACK)))
            tab.shoot(pictures / f"{scene}-{width}-{scheme}.png")
    # Each has its colour, and not the other's.
    assert len(backs) == len({back for _, back in backs}) == 2
    assert tab.value("document.documentElement.lang") == "en"
    for heading in ("Hypervisors", "Machines", "Last deploys"):
        assert heading in tab.value("document.body.innerText")
    assert tab.complaints == []


@pytest.mark.parametrize("count", [0, 1, 200])
def test_it_fits_any_window_in_light_and_dark(tab, tmp_path, pictures, count):
    with fleet(tmp_path, count) as uri, exporter(tmp_path, uri=uri) as asked:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        looked_at(tab, asked, count, pictures, f"machines-{count}")


def test_it_shows_what_differs_and_what_runs(halting, tab, tmp_path, pictures):
    virsh(f"desc {halting.name} --config 'changed by hand'")
    virsh(f"setmem {halting.name} 96M --config")
    drift = ("pyguixvm_machine_drift_fields", "qemu:///system", halting.name)
    with exporter(tmp_path) as asked:
        asked.wait(lambda found: found.get(drift) == 2)
        looked_at(tab, asked, 1, pictures, "drifted")
        text = tab.value("document.getElementById('machines').innerText")
    assert "changed by hand" in text
    assert "2 differences" in text


@pytest.mark.guix
def test_it_shows_that_a_hypervisor_is_away(tab, tmp_path, pictures):
    image = tmp_path / "disk.raw"
    image.write_bytes(boot_sector.halting().ljust(MIB, b"\0"))
    away = f"qemu+unix:///system?socket={tmp_path}/nobody"
    with fleet(tmp_path, 1) as there:
        config = tmp_path / "infra.scm"
        machines = (
            f'(virtual-machine (name "{name}") (hypervisor "{uri}")'
            f' (image (local-image "{image}")))'
            for name, uri in (("m000", there), ("db", away))
        )
        config.write_text(f"(list {' '.join(machines)})")
        with exporter(tmp_path, str(config), uri=there) as asked:
            asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", there)) == 1, 120)
            asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", away)) == 0)
            looked_at(tab, asked, 2, pictures, "away")
            text = tab.value("document.body.innerText")
            row = tab.value("document.getElementById('machine-db').innerText")
    assert "1 hypervisor away" in text
    assert "away: " in text
    assert "unreachable" in row


def test_it_renews_itself_and_keeps_what_was_closed(halting, tab, tmp_path):
    with exporter(tmp_path) as asked:
        asked.wait(
            lambda found: (
                found.get(("pyguixvm_machine_as_declared", "qemu:///system", halting.name)) == 1
            )
        )
        tab.open(f"http://127.0.0.1:{asked.port}/")
        row = f"document.getElementById('machine-{halting.name}')"
        tab.wait(f"{row} !== null")
        virsh(f"desc {halting.name} --config one")
        tab.wait("document.body.innerText.includes('domain.description')")
        assert "declared not set" in tab.value("document.body.innerText")
        tab.value(f"{row}.querySelector('details').open = false")
        tab.value(f"{row}.querySelector('summary').focus()")
        virsh(f"desc {halting.name} --config --title two")
        tab.wait("document.body.innerText.includes('2 differences')")
        assert tab.value(f"{row}.querySelector('details').open") is False
        assert tab.value("document.activeElement.tagName") == "SUMMARY"
    # Without the exporter it says that it is old.
    tab.wait(STALE)


def test_without_javascript_there_is_a_table_all_the_same(tab, tmp_path):
    with fleet(tmp_path, 3) as uri, exporter(tmp_path, uri=uri) as asked:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        tab.open(f"http://127.0.0.1:{asked.port}/", scripts=False)
        tab.wait(f"{MACHINES} == 3")
        # As assistive technology is told it.
        told = tab.told()
        assert {("columnheader", "Status"), ("rowheader", "m000"), ("heading", "Machines")} <= told
        assert "status" in {role for role, _ in told}


def test_a_guest_that_calls_itself_a_script_runs_nothing(hostile, tab, tmp_path):
    machine, agent = hostile
    agent.returns("guest-get-time", 1)
    mountpoint = "</td><img src=x onerror=document.title='owned'><script>document.title='owned'"
    agent.returns(
        "guest-get-fsinfo",
        [{"mountpoint": mountpoint, "total-bytes": 100, "used-bytes": 99, "name": "x",
          "type": "ext4", "disk": []}],
    )  # fmt: skip
    with ExitStack() as opened:
        asked = opened.enter_context(exporter(tmp_path))
        tab.open(f"http://127.0.0.1:{asked.port}/")
        tab.wait("document.body.innerText.includes('onerror=')", 120)
        assert machine.name in tab.value("document.body.innerText")
        assert tab.value("document.title") == "Machines · pyguixvm"
        assert tab.value("document.images.length + document.scripts.length") == 1


def test_whoever_could_not_listen_at_first_does_later(tab, tmp_path):
    with fleet(tmp_path, 1) as uri, exporter(tmp_path, uri=uri) as asked, ExitStack() as listening:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        # As many as may.
        others = [asked.listen() for _ in range(32)]
        for each in others:
            listening.enter_context(closing(each))
        tab.open(f"http://127.0.0.1:{asked.port}/")
        tab.wait(STALE)
        listening.close()
        tab.wait(f"!{STALE}")
        assert tab.value("source.readyState") == 1


def test_an_exporter_that_hangs_is_seen_to(tab, tmp_path):
    with fleet(tmp_path, 1) as uri, exporter(tmp_path, uri=uri) as asked:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        tab.open(f"http://127.0.0.1:{asked.port}/")
        # Its script may not have begun.
        tab.wait(f"typeof source == 'object' && source.readyState == 1 && !{STALE}")
        asked.process.send_signal(signal.SIGSTOP)
        try:
            tab.wait(STALE)
        finally:
            asked.process.send_signal(signal.SIGCONT)
        tab.wait(f"!{STALE}")


def test_the_keyboard_reaches_everything_and_opens_what_is_closed(halting, tab, tmp_path):
    virsh(f"desc {halting.name} --config 'changed by hand'")
    drift = ("pyguixvm_machine_drift_fields", "qemu:///system", halting.name)
    with exporter(tmp_path) as asked:
        asked.wait(lambda found: found.get(drift) == 1)
        tab.open(f"http://127.0.0.1:{asked.port}/")
        tab.wait(f"{MACHINES} >= 1")
        # First what leads past all that comes before the machines, and shows itself then.
        tab.press("Tab")
        assert tab.value("document.activeElement.className") == "skip"
        assert tab.value("document.activeElement.getBoundingClientRect().left") >= 0
        tab.press("Enter")
        tab.wait("location.hash == '#machines'")
        tab.press("Tab")
        assert tab.value("document.activeElement.tagName") == "SUMMARY"
        outline = "getComputedStyle(document.activeElement).outlineStyle"
        assert tab.value(outline) != "none"
        tab.press("Enter")
        tab.wait("!document.activeElement.parentElement.open")
        tab.press("Enter")
        tab.wait("document.activeElement.parentElement.open")
        tab.wait("document.querySelector('#graph a') !== null")
        # What is reached is what is wanted: nothing is renewed meanwhile.
        asked.process.send_signal(signal.SIGSTOP)
        try:
            wanted = tab.value(
                "[...document.querySelectorAll('#machines a, #machines summary, #graph a')]"
                ".map((each) => each.outerHTML)"
            )
            reached = set()
            while (here := tab.value(ABOUT_FOCUS)) is not None and here not in reached:
                reached.add(here)
                tab.press("Tab")
        finally:
            asked.process.send_signal(signal.SIGCONT)
        assert reached >= set(wanted)


def test_a_screen_reader_is_told_what_is_seen(halting, tab, tmp_path):
    virsh(f"desc {halting.name} --config 'changed by hand'")
    drift = ("pyguixvm_machine_drift_fields", "qemu:///system", halting.name)
    with exporter(tmp_path) as asked:
        asked.wait(lambda found: found.get(drift) == 1)
        for width in (1280, 390):
            tab.open(f"http://127.0.0.1:{asked.port}/", width=width)
            tab.wait(f"{MACHINES} >= 1")
            told = tab.told()
            for section in ("Hypervisors", "Machines", "What is where", "Last deploys"):
                assert ("region", section) in told
                assert ("heading", section) in told
            assert {("main", ""), ("link", "Skip to the machines")} <= told
            # On a phone, too, where no table is to be seen.
            assert ("columnheader", "Status") in told
            heads = {name for role, name in told if role == "rowheader"}
            assert {name.split()[-1] for name in heads} >= {halting.name}
            # What nobody gave a name is nothing to whoever does not see it.
            unnamed = {role for role, name in told if role in NAMED and not name}
            assert not unnamed

# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter's page in a real browser."""

from contextlib import ExitStack

import pytest
from browsing import browser
from deploying import virsh
from exporting import exporter
from fleet import fleet

WIDE = "document.documentElement.scrollWidth <= window.innerWidth"
MACHINES = "document.querySelectorAll('#machines tbody tr').length"
BACK = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture
def tab(tmp_path):
    with browser(tmp_path) as opened:
        yield opened


@pytest.mark.parametrize("count", [0, 1, 200])
def test_it_fits_any_window_in_light_and_dark(tab, tmp_path, count):
    with fleet(tmp_path, count) as uri, exporter(tmp_path, uri=uri) as asked:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        backs = set()
        for width in (1280, 390):
            for scheme in ("light", "dark"):
                tab.open(f"http://127.0.0.1:{asked.port}/", width=width, scheme=scheme)
                tab.wait(f"document.readyState == 'complete' && {MACHINES} == {count}")
                assert tab.value(WIDE)
                backs.add((scheme, tab.value(BACK)))
        # Each has its colour, and not the other's.
        assert len(backs) == len({back for _, back in backs}) == 2
        assert tab.value("document.documentElement.lang") == "en"
        for heading in ("Hypervisors", "Machines", "Last deploys"):
            assert heading in tab.value("document.body.innerText")
    assert tab.complaints == []


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
        assert "declared null" in tab.value("document.body.innerText")
        tab.value(f"{row}.querySelector('details').open = false")
        tab.value(f"{row}.querySelector('summary').focus()")
        virsh(f"desc {halting.name} --config --title two")
        tab.wait("document.body.innerText.includes('2 differences')")
        assert tab.value(f"{row}.querySelector('details').open") is False
        assert tab.value("document.activeElement.tagName") == "SUMMARY"
    # Without the exporter it says that it is old.
    tab.wait("document.getElementById('content').classList.contains('stale')")


def test_without_javascript_there_is_a_table_all_the_same(tab, tmp_path):
    with fleet(tmp_path, 3) as uri, exporter(tmp_path, uri=uri) as asked:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        tab.open(f"http://127.0.0.1:{asked.port}/", scripts=False)
        tab.wait(f"{MACHINES} == 3")
        # As assistive technology is told it.
        nodes = tab.tell("Accessibility.getFullAXTree")["nodes"]
        told = {(node["role"]["value"], node.get("name", {}).get("value")) for node in nodes}
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

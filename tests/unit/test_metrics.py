# SPDX-License-Identifier: GPL-3.0-or-later
"""What the exporter makes of what it knows: metrics, counters, a page."""

from __future__ import annotations

import html.parser
import subprocess
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import GIB, domain, machine
from prometheus_client.parser import text_string_to_metric_families
from test_planner import applied, hypervisor, observed

from pyguixvm.errors import UsageError
from pyguixvm.exporter.address import parsed
from pyguixvm.exporter.commits import Commits
from pyguixvm.exporter.history import History
from pyguixvm.exporter.journal import Journal
from pyguixvm.exporter.markup import tag
from pyguixvm.exporter.metrics import exposition
from pyguixvm.exporter.page import page, static_page
from pyguixvm.exporter.view import ConfigurationView, FleetView, HypervisorView
from pyguixvm.model.applied import LastDeploy
from pyguixvm.model.guest import FileSystem, Inside
from pyguixvm.model.provenance import Checkout, Provenance
from pyguixvm.model.statistics import DiskStatistics, InterfaceStatistics, PoolSpace, Statistics
from pyguixvm.plan.origins import Origin, Origins
from pyguixvm.plan.rates import Rates
from pyguixvm.plan.status import MachineStatus, statuses

URI = "test:///default"
NOW = 1_790_000_000.0
EVIL = "<script>alert(1)</script>\"'&\u202e\x1b[2J"
USED = Statistics(
    state=1, cpu_seconds=12.5, cpus=1, memory=GIB, resident=GIB // 2, unused=GIB // 4,
    disks=(DiskStatistics("vda", "/pool/root", read_bytes=1, write_bytes=2, allocation=GIB),),
    interfaces=(InterfaceStatistics("vnet0", received_bytes=3, sent_bytes=4),),
)  # fmt: skip
SPACE = PoolSpace("default", active=True, capacity=10 * GIB, allocation=9 * GIB, available=GIB)


def seen(*found: MachineStatus, **changes: Any) -> HypervisorView:
    there = hypervisor(observed())
    fields: dict[str, Any] = {
        "uri": URI, "error": None, "looked": NOW - 5, "seconds": 0.1,
        "observation": there, "statuses": found or statuses([machine()], there),
        "statistics": {"0" * 36: USED}, "spaces": (SPACE,),
    }  # fmt: skip
    return HypervisorView(**(fields | changes))


def samples(view: FleetView) -> dict[tuple[str, ...], float]:
    """Return what the metrics of VIEW say, by name and the sorted values of their labels."""
    text = exposition(view, NOW, 0.25).decode()
    return {
        (sample.name, *sorted(sample.labels.values())): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def test_what_libvirt_counts_has_the_names_that_people_know() -> None:
    found = samples(FleetView(hypervisors=(seen(),)))
    here = (URI, "web")
    assert found["libvirt_domain_info_cpu_time_seconds_total", *here] == 12.5
    assert found["libvirt_domain_info_memory_usage_bytes", *here] == GIB
    assert (
        found["libvirt_domain_block_stats_write_bytes_total", "/pool/root", URI, "vda", "web"] == 2
    )
    assert found["libvirt_domain_interface_stats_receive_bytes_total", URI, "vnet0", "web"] == 3
    # What was not told is absent, and not 0.
    assert not [key for key in found if key[0] == "libvirt_domain_memory_stats_usable_bytes"]


def test_what_only_we_know() -> None:
    drifted = statuses([machine(domain=domain(memory=2 * GIB))], hypervisor(observed()))
    found = samples(FleetView(hypervisors=(seen(*drifted),)))
    here = (URI, "web")
    assert found["pyguixvm_machine_as_declared", *here] == 0
    assert found["pyguixvm_machine_drift_fields", *here] == 1
    assert found["pyguixvm_machine_present", *here] == 1
    assert found["pyguixvm_machine_ready", *here] == 1
    assert found["pyguixvm_machine_status", "drifted", *here] == 1
    assert found["pyguixvm_pool_free_bytes", "default", URI] == GIB
    assert found["pyguixvm_hypervisor_up", URI] == 1
    assert found["pyguixvm_hypervisor_looked_seconds", URI] == 5
    assert found["pyguixvm_scrape_duration_seconds",] == 0.25
    assert found["pyguixvm_machine_deploys_total", "rolled_back", "web"] == 0
    # Nobody knows what the guest runs.
    assert ("pyguixvm_machine_guest_as_deployed", *here) not in found


def test_what_a_guest_says_is_told() -> None:
    inside = Inside(uptime=60.0, clock=-3.0, failed=("nginx",), file_systems=(
        FileSystem("/", 100, 91),))  # fmt: skip
    there = statuses([machine()], hypervisor(observed(inside=inside)))
    found = samples(FleetView(hypervisors=(seen(*there),)))
    here = (URI, "web")
    assert found["pyguixvm_machine_guest_answers", *here] == 1
    assert found["pyguixvm_machine_guest_failed_services", *here] == 1
    assert found["pyguixvm_machine_guest_clock_offset_seconds", *here] == -3
    assert found["pyguixvm_machine_guest_filesystem_used_bytes", "/", *here] == 91


def test_a_hypervisor_that_is_away_and_a_machine_that_is_missing() -> None:
    away = seen(error="it hangs")
    found = samples(FleetView(hypervisors=(away,)))
    assert found["pyguixvm_hypervisor_up", URI] == 0
    assert not [key for key in found if key[0].startswith("libvirt_domain")]
    missing = seen(*statuses([machine(name="db")], hypervisor()))
    found = samples(FleetView(hypervisors=(missing,)))
    assert found["pyguixvm_machine_present", "db", URI] == 0
    assert found["pyguixvm_machine_as_declared", "db", URI] == 0


def test_a_configuration_that_does_not_evaluate() -> None:
    broken = ConfigurationView("/c.scm", error="no", machines=("web",))
    found = samples(FleetView(configurations=(broken,), evaluation_errors={"/c.scm": 3}))
    assert found["pyguixvm_configuration_evaluates", "/c.scm"] == 0
    assert found["pyguixvm_evaluation_errors_total", "/c.scm"] == 3


def test_how_old_the_commits_are_that_a_machine_is_of() -> None:
    old, new = (
        Provenance(configuration=Checkout("/infra", None, letter * 40, modified=False))
        for letter in "ab"
    )
    first = msgspec.structs.replace(applied().generation, provenance=old)
    there = hypervisor(observed(metadata=msgspec.structs.replace(applied(), generations=(first,))))
    view = seen(*statuses([machine()], there, provenance=new))
    committed = {"a" * 40: NOW - 60, "b" * 40: NOW - 30}
    found = samples(FleetView(hypervisors=(view,), committed=committed))
    assert found["pyguixvm_commit_age_seconds", "deployed", URI, "web"] == 60
    assert found["pyguixvm_commit_age_seconds", "declared", URI, "web"] == 30
    # What is not known is absent.
    found = samples(FleetView(hypervisors=(view,)))
    assert not [key for key in found if key[0] == "pyguixvm_commit_age_seconds"]


def test_when_a_commit_was_made_is_asked_of_its_repository(tmp_path: Path) -> None:
    def git(*words: str) -> str:
        who = ["-c", "user.name=a", "-c", "user.email=a@b"]
        command = ["git", "-C", str(tmp_path), *who, *words]
        return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()

    git("init", "-q")
    git("commit", "-q", "--allow-empty", "-m", "one", "--date", "2026-01-01T00:00:00Z")
    commit, made = git("rev-parse", "HEAD"), float(git("log", "-1", "--format=%ct"))

    def status(**fields: Any) -> MachineStatus:
        checkout = Checkout(str(tmp_path), None, commit, modified=False)
        provenance = Provenance(configuration=msgspec.structs.replace(checkout, **fields))
        return MachineStatus("web", "deployed", origins=Origins(Origin(provenance=provenance)))

    commits = Commits()
    commits.look_up(
        [
            status(),
            status(commit="0" * 40),
            status(commit="--output=/x"),
            status(directory="/nowhere"),
        ]
    )
    assert commits.made() == {commit: made}


def test_names_that_others_gave_break_no_metrics() -> None:
    evil = MachineStatus(name=f"{EVIL}\n", status="missing", hypervisor=f'"\\{EVIL}')
    found = samples(FleetView(hypervisors=(seen(evil, evil),)))
    (key,) = (key for key in found if key[0] == "pyguixvm_machine_present")
    assert all(label.isprintable() for label in key)


def test_counters_go_on_where_they_were(tmp_path: Path) -> None:
    file = tmp_path / "state" / "exporter.json"
    deploy = LastDeploy("ada@pc", "2026-03-01T00:00:00+00:00", 9.0)
    ended = msgspec.structs.replace(applied().generation, deploy=deploy)
    failed = msgspec.structs.replace(ended, number=2, failed=True)
    for generations in ((ended,), (ended, failed), (ended, failed)):
        journal = Journal(file)
        metadata = msgspec.structs.replace(applied(), generations=generations)
        journal.deploys_seen(statuses([machine()], hypervisor(observed(metadata=metadata))))
        journal.evaluation_failed("c.scm")
    assert journal.deploys() == {("web", "ready"): 1, ("web", "rolled back"): 1}
    assert journal.evaluation_errors() == {"c.scm": 3}
    file.write_text("{ damaged")
    assert Journal(file).deploys() == {}


def test_the_last_hour_is_kept_and_no_more() -> None:
    history = History()
    for step in range(1000):
        used = msgspec.structs.replace(USED, cpu_seconds=float(step * 15))
        history.note(seen(statistics={"0" * 36: used}), NOW + step * 30)
    points = history.of("0" * 36)
    assert (len(points), points[-1].cpu) == (120, 0.5)
    assert history.of("other") == ()


class Texts(html.parser.HTMLParser):
    """Collects the text of a page, and its elements."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.elements: list[str] = []
        self.open: list[str] = []
        self.text = ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        del attrs
        self.elements.append(tag)
        if tag not in {"meta", "link"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.text += data


def known(uuid: str | None) -> tuple[Rates, ...]:
    return tuple(Rates(cpu=n / 10, read=None, written=1.0, received=1, sent=n) for n in range(9))


def test_everything_in_the_page_is_escaped() -> None:
    inside = Inside(failed=(EVIL,), file_systems=(FileSystem(EVIL, 10, 10),))
    there = msgspec.structs.replace(
        statuses([machine()], hypervisor(observed(inside=inside)))[0],
        name=EVIL, detail=EVIL, label=EVIL, foreign=(EVIL,), addresses=(EVIL,),
    )  # fmt: skip
    view = FleetView(
        hypervisors=(seen(there, uri=EVIL), seen(uri="b", error=EVIL)),
        configurations=(ConfigurationView(EVIL, error=EVIL),),
    )
    shown = Texts(page(view, known, NOW))
    assert shown.elements.count("script") == 1
    assert "<script>alert(1)</script>\"'&\\u202e\\x1b[2J" in shown.text
    static = Texts(static_page(view, known, NOW, "p { margin: 0 }"))
    assert "script" not in static.elements
    assert "link" not in static.elements


def test_what_differs_is_shown_with_both_values() -> None:
    drifted = statuses([machine(domain=domain(memory=2 * GIB))], hypervisor(observed()))
    text = Texts(page(FleetView(hypervisors=(seen(*drifted),)), known, NOW)).text
    assert "domain.memory" in text
    assert "is 1G, declared 2G" in text
    assert "1 drifted" in text


@pytest.mark.parametrize(
    ("view", "said"),
    [
        (FleetView(), "There are no machines."),
        (FleetView(hypervisors=(seen(),)), "1 deployed"),
        (FleetView(hypervisors=(seen(), seen(uri="b", error="gone"))), "1 hypervisor away"),
    ],
)
def test_the_page_begins_with_how_it_is(view: FleetView, said: str) -> None:
    assert said in Texts(page(view, known, NOW)).text


def test_markup_escapes_texts_and_attributes() -> None:
    assert tag("p", "<", tag("b", "&"), None, 5, title='"', hidden=True, lang=None) == (
        '<p title="&quot;" hidden>&lt;<b>&amp;</b>5</p>'
    )


def test_where_to_listen() -> None:
    assert parsed("127.0.0.1:0") == ("127.0.0.1", 0)
    for wrong in ("9177", "localhost", ":80", "a:b", "h:99999", "h:80/x", "::1:80"):
        with pytest.raises(UsageError, match="address to listen at"):
            parsed(wrong)

# SPDX-License-Identifier: GPL-3.0-or-later
"""The exporter at a real libvirtd, asked by a real Prometheus."""

import http.client
import json
import os
import re
import shutil
import signal
import socket
import subprocess
from pathlib import Path
from urllib.parse import quote

import boot_sector
import pytest
from deploying import virsh
from exporting import exporter, prometheus
from fleet import fleet

HERE = Path(__file__).parent
SYSTEM = "qemu:///system"
OPERATORS = {"sum", "count", "rate", "increase", "by", "on", "or", "and", "absent", "vector", "up"}


def printed(what):
    return subprocess.run(
        ["pyguixvm", "exporter", "--print", what], capture_output=True, text=True, check=True
    ).stdout


def promtool(*arguments, **options):
    done = subprocess.run(["promtool", *arguments], capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr


def test_a_machine_that_is_changed_by_hand_shows_in_a_real_prometheus(halting, tmp_path):
    name = halting.name
    with exporter(tmp_path) as asked, prometheus(tmp_path, asked.port) as watching:
        declared = ("pyguixvm_machine_as_declared", SYSTEM, name)
        found = asked.wait(lambda found: found.get(declared) == 1)
        assert found["libvirt_domain_info_memory_usage_bytes", SYSTEM, name] == (
            halting.domain.memory
        )
        _, headers, text = asked.get()
        assert headers["Content-Type"].startswith("text/plain")
        promtool("check", "metrics", input=text)
        machine = f'machine="{name}"'
        watching.wait('up{job="pyguixvm"}', 1)
        watching.wait(f"pyguixvm_machine_as_declared{{{machine}}}", 1)
        virsh(f"desc {name} --config changed")
        watching.wait(f"pyguixvm_machine_drift_fields{{{machine}}}", 1)
        virsh(f"suspend {name}")
        watching.wait(f'pyguixvm_machine_state{{{machine}, state="paused"}}', 1)
        assert asked.get("/healthz")[::2] == (200, "ok\n")
        # A Prometheus answers all that the dashboard asks of it, as Grafana would.
        for expression in shown(json.loads(printed("dashboard"))):
            found = watching.ask(f"/api/v1/query?query={quote(filled_in(expression))}")
            assert found["resultType"] == "vector", expression


def shown(dashboard):
    return [target["expr"] for panel in dashboard["panels"] for target in panel["targets"]]


def filled_in(expression):
    """Return EXPRESSION with its variables as Grafana fills them in where all are wanted."""
    for name, value in (("machine", ".*"), ("hypervisor", ".*"), ("__rate_interval", "1m")):
        expression = expression.replace(f"${name}", value)
    assert "$" not in expression
    return expression


def test_the_dashboard_is_as_grafana_wants_it():
    dashboard = json.loads(printed("dashboard"))
    assert {"title", "uid", "schemaVersion", "panels", "templating", "time"} <= dashboard.keys()
    # One that is imported gets a number of its own.
    assert dashboard.get("id") is None
    variables = {each["name"] for each in dashboard["templating"]["list"]}
    used = set(re.findall(r"\$\{?([a-z]+)", json.dumps(dashboard)))
    assert used == variables
    places, numbers = set(), set()
    for panel in dashboard["panels"]:
        assert panel["type"] in {"stat", "table", "timeseries"}
        assert panel["datasource"] == {"type": "prometheus", "uid": "${datasource}"}
        assert {target["refId"] for target in panel["targets"]}
        numbers.add(panel["id"])
        grid = panel["gridPos"]
        assert 0 <= grid["x"] <= grid["x"] + grid["w"] <= 24
        covered = {
            (grid["x"] + x, grid["y"] + y) for x in range(grid["w"]) for y in range(grid["h"])
        }
        assert not places & covered, panel["title"]
        places |= covered
    assert len(numbers) == len(dashboard["panels"])


def test_rules_are_well_and_fire_when_they_should(tmp_path):
    (tmp_path / "alerts.yml").write_text(printed("alerts"))
    shutil.copy(HERE / "alerts.test.yml", tmp_path)
    promtool("check", "rules", "alerts.yml", cwd=tmp_path)
    promtool("test", "rules", "alerts.test.yml", cwd=tmp_path)
    tested = set(re.findall(r"alertname: (\w+)", (tmp_path / "alerts.test.yml").read_text()))
    assert tested == set(re.findall(r"- alert: (\w+)", printed("alerts")))


def names_in(expressions):
    """Return the metrics that EXPRESSIONS are about."""
    found = set()
    for expression in expressions:
        bare = re.sub(
            r"\{[^}]*\}|\[[^]]*\]|\b(by|on|without) \([^)]*\)|\"[^\"]*\"", " ", expression
        )
        found |= set(re.findall(r"[a-z][a-z_]+", bare)) - OPERATORS
    return found


def test_rules_and_dashboard_are_about_metrics_that_there_are(tmp_path):
    with fleet(tmp_path, 2) as uri, exporter(tmp_path, uri=uri) as asked:
        _, _, text = asked.get()
    there = set(re.findall(r"^# HELP (\S+)", text, re.MULTILINE))
    dashboard = json.loads(printed("dashboard"))
    asked_for = names_in(shown(dashboard))
    asked_for |= {
        re.search(r"label_values\((\w+)", variable["definition"])[1]
        for variable in dashboard["templating"]["list"]
        if variable["type"] == "query"
    }
    assert len(asked_for) > 15
    assert asked_for <= there
    rules = re.findall(r"expr: (?:>-\n)?((?:.|\n)*?)\n +(?:for|labels):", printed("alerts"))
    assert len(rules) == printed("alerts").count("- alert:")
    assert names_in(rules) <= there


def test_a_hypervisor_that_hangs_delays_no_scrape_and_is_told(halting, tmp_path):
    daemon = int(Path("/run/libvirtd.pid").read_text())
    up = ("pyguixvm_hypervisor_up", SYSTEM)
    with exporter(tmp_path) as asked:
        asked.wait(lambda found: found.get(up) == 1)
        os.kill(daemon, signal.SIGSTOP)
        try:
            # Each of them ends: the exporter waits for half a second, and then no longer.
            assert asked.samples()[up] == 0
            assert asked.samples()[up] == 0
            assert asked.get("/healthz")[0] == 200
            assert halting.name in asked.get("/")[2]
        finally:
            os.kill(daemon, signal.SIGCONT)
        asked.wait(lambda found: found[up] == 1)


def test_a_libvirtd_that_is_restarted_is_found_again(halting, tmp_path):
    declared = ("pyguixvm_machine_as_declared", SYSTEM, halting.name)
    with exporter(tmp_path) as asked:
        asked.wait(lambda found: found.get(declared) == 1)
        subprocess.run([HERE / "restart-libvirtd"], check=True)
        virsh(f"desc {halting.name} --config changed")
        asked.wait(lambda found: found.get(declared) == 0)


def test_counters_survive_the_exporter(halting, tmp_path):
    deploys = ("pyguixvm_machine_deploys_total", "ready", halting.name)
    for _ in range(2):
        with exporter(tmp_path) as asked:
            found = asked.wait(lambda found: found.get(deploys))
            assert found[deploys] == 1


@pytest.mark.guix
def test_a_configuration_that_does_not_evaluate_is_told_and_the_last_one_counts(tmp_path):
    config = tmp_path / "infra.scm"
    image = tmp_path / "disk.raw"
    image.write_bytes(boot_sector.halting())
    with image.open("ab") as file:
        file.truncate(16 * 1024**2)
    well = f'(virtual-machine (name "nowhere") (image (local-image "{image}")))'
    config.write_text(well)
    evaluates = ("pyguixvm_configuration_evaluates", str(config))
    errors = ("pyguixvm_evaluation_errors_total", str(config))
    missing = ("pyguixvm_machine_present", "nowhere", SYSTEM)
    with exporter(tmp_path, str(config)) as asked:
        found = asked.wait(lambda found: found.get(missing) == 0, 120)
        assert (found[evaluates], found[errors]) == (1, 0)
        config.write_text("(virtual-machine (nme")
        found = asked.wait(lambda found: found.get(evaluates) == 0, 120)
        assert (found[errors], found[missing]) == (1, 0)
        config.write_text(well)
        asked.wait(lambda found: found.get(evaluates) == 1, 120)


def test_the_page_is_there_and_renews_itself(halting, tmp_path):
    with exporter(tmp_path) as asked:
        asked.wait(lambda found: ("pyguixvm_machine_as_declared", SYSTEM, halting.name) in found)
        status, headers, page = asked.get("/")
        assert status == 200
        assert halting.name in page
        assert "default-src 'none'" in headers["Content-Security-Policy"]
        assert not re.search(r"(src|href)=\"(https?:)?//", page)
        for path in ("/page.css", "/page.js"):
            assert asked.get(path)[0] == 200
        assert asked.get("/../etc/passwd")[0] == 404
        connection = http.client.HTTPConnection("127.0.0.1", asked.port, timeout=60)
        connection.request("GET", "/events")
        events = connection.getresponse()
        assert events.headers["Content-Type"] == "text/event-stream"
        virsh(f"desc {halting.name} --config changed")
        told = ""
        while "domain.description" not in told:
            told = events.readline().decode()
        connection.close()


def test_whoever_only_asks_cannot_change_or_exhaust_anything(tmp_path):
    with fleet(tmp_path, 2) as uri, exporter(tmp_path, uri=uri) as asked:
        asked.wait(lambda found: found.get(("pyguixvm_hypervisor_up", uri)) == 1)
        idle = [socket.create_connection(("127.0.0.1", asked.port)) for _ in range(100)]
        for each in idle:
            each.close()
        asked.wait(lambda _: True)
        connection = http.client.HTTPConnection("127.0.0.1", asked.port, timeout=30)
        connection.request("POST", "/metrics", body="x" * 100)
        assert connection.getresponse().status == 501
        connection.close()
        assert asked.get("/" + "x" * 70000)[0] == 414


def test_an_address_that_is_taken_or_none_is_refused(tmp_path):
    with fleet(tmp_path, 1) as uri, exporter(tmp_path, uri=uri) as asked:
        for address, status in ((f"127.0.0.1:{asked.port}", 5), ("nowhere", 2)):
            done = subprocess.run(
                ["pyguixvm", "-c", uri, "exporter", "--listen", address],
                capture_output=True, text=True, timeout=60,
            )  # fmt: skip
            assert done.returncode == status
            assert "hint:" in done.stderr

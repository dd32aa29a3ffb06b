# SPDX-License-Identifier: GPL-3.0-or-later
"""A real exporter, and a real Prometheus that asks it."""

import http.client
import json
import os
import re
import signal
import subprocess
import time
from contextlib import contextmanager
from urllib.parse import quote

from prometheus_client.parser import text_string_to_metric_families


class Exporter:
    """An exporter that listens at PORT, as PROCESS."""

    def __init__(self, process, port):
        self.process, self.port = process, port

    def get(self, path="/metrics"):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read().decode()
        finally:
            connection.close()

    def listen(self):
        """Return a connection by which news are told."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        connection.request("GET", "/events")
        assert connection.getresponse().status == 200
        return connection

    def samples(self):
        """Return what the metrics say now, by name and the sorted values of their labels."""
        status, _, text = self.get()
        assert status == 200
        return {
            (sample.name, *sorted(sample.labels.values())): sample.value
            for family in text_string_to_metric_families(text)
            for sample in family.samples
        }

    def wait(self, wanted, seconds=60):
        """Return the metrics as soon as WANTED of them is true."""
        deadline = time.monotonic() + seconds
        while not wanted(found := self.samples()):
            assert time.monotonic() < deadline, found
            time.sleep(0.2)
        return found


@contextmanager
def exporter(directory, *arguments, uri="qemu:///system", environment=None):
    """Yield an exporter that keeps its state in DIRECTORY and looks at URI."""
    process = subprocess.Popen(
        ["pyguixvm", "-c", uri, "exporter", "--listen", "127.0.0.1:0", *arguments],
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"XDG_STATE_HOME": str(directory / "state")} | (environment or {}),
    )
    try:
        found = None
        while found is None:
            line = process.stderr.readline()
            assert line, "the exporter ended"
            found = re.search(r"listening at http://127\.0\.0\.1:(\d+)/", line)
        yield Exporter(process, int(found[1]))
    finally:
        process.send_signal(signal.SIGTERM)
        _, said = process.communicate()
        # Shown where a test fails.
        print(said)


class Prometheus:
    """A Prometheus that listens at PORT."""

    def __init__(self, port):
        self.port = port

    def ask(self, path):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=30)
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())["data"]
        finally:
            connection.close()

    def value(self, query):
        """Return the one value of QUERY, None if there is none."""
        found = self.ask(f"/api/v1/query?query={quote(query)}")["result"]
        return float(found[0]["value"][1]) if found else None

    def wait(self, query, value, seconds=60):
        """Return as soon as QUERY has VALUE."""
        deadline = time.monotonic() + seconds
        while (found := self.value(query)) != value:
            assert time.monotonic() < deadline, (query, found)
            time.sleep(0.5)


@contextmanager
def prometheus(directory, port, port_of_its_own=19090):
    """Yield a Prometheus that scrapes the exporter at PORT each second, with our rules.

    Its alerts fire at once: for how long each waits, their own tests show.
    """
    printed = subprocess.run(
        ["pyguixvm", "exporter", "--print", "alerts"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    rules = directory / "alerts.yml"
    rules.write_text(re.sub(r"\bfor: \d+m\b", "for: 1s", printed))
    config = directory / "prometheus.yml"
    config.write_text(
        f"global: {{scrape_interval: 1s, evaluation_interval: 1s}}\n"
        f"rule_files: [{rules}]\n"
        "scrape_configs:\n"
        "  - job_name: pyguixvm\n"
        f"    static_configs: [{{targets: ['127.0.0.1:{port}']}}]\n"
    )
    with (directory / "prometheus.log").open("w") as log:
        process = subprocess.Popen(
            [
                "prometheus",
                f"--config.file={config}",
                f"--storage.tsdb.path={directory / 'data'}",
                f"--web.listen-address=127.0.0.1:{port_of_its_own}",
            ],
            stdout=log,
            stderr=log,
        )
        try:
            asked = Prometheus(port_of_its_own)
            deadline = time.monotonic() + 60
            while True:
                try:
                    asked.ask("/api/v1/status/runtimeinfo")
                    break
                except (OSError, ValueError):
                    assert process.poll() is None, (directory / "prometheus.log").read_text()
                    assert time.monotonic() < deadline
                    time.sleep(0.2)
            yield asked
        finally:
            process.terminate()
            process.wait()

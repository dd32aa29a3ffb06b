# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that goes on telling: exporter."""

from __future__ import annotations

from pathlib import Path

import click

from pyguixvm.cli.here import session
from pyguixvm.cli.options import Options, common_options
from pyguixvm.cli.output import Output
from pyguixvm.exporter.address import DEFAULT, parsed
from pyguixvm.exporter.fleet import Fleet
from pyguixvm.exporter.journal import Journal
from pyguixvm.exporter.server import Server, packaged
from pyguixvm.exporter.watcher import LOOK_AGAIN

# What comes with the exporter, by the names that --print knows.
_FILES = {
    "alerts": "alerts.yml",
    "dashboard": "dashboard.json",
    "systemd": "pyguixvm-exporter.service",
}


@click.command("exporter")
@click.argument("configs", nargs=-1, metavar="[CONFIG]...", type=click.Path(path_type=Path))
@click.option(
    "--listen", default=DEFAULT, show_default=True, metavar="ADDRESS:PORT", help="Where to answer."
)
@click.option(
    "--interval",
    type=click.FloatRange(min=1),
    default=LOOK_AGAIN,
    show_default=True,
    metavar="SECONDS",
    help="How often to look at what libvirt tells by no event.",
)
@click.option(
    "--print",
    "printed",
    type=click.Choice(sorted(_FILES)),
    help="Print alert rules for Prometheus, a dashboard for Grafana, or a unit for systemd.",
)
@common_options
@click.pass_obj
def exporter_command(
    options: Options,
    configs: tuple[Path, ...],
    *,
    listen: str,
    interval: float,
    printed: str | None,
) -> int:
    """Tell Prometheus (/metrics) and people (/) how machines are, until Control-C.

    With CONFIGs, their machines are compared with what they declare, and a CONFIG is
    evaluated anew whenever it changes.  Without, every machine that pyguixvm deployed, with
    what was applied.  Nothing can be changed by way of it.

    A connection that may only look (-c 'qemu:///system?ro') needs no rights; what guests run
    is unknown then.  If it listens at more than 127.0.0.1, put it behind a proxy.
    """
    output = Output(options)
    if printed is not None:
        output.verbatim(packaged(_FILES[printed]))
        return 0
    address = parsed(listen)
    here = session(options, output)
    fleet = Fleet(here, configs, Journal(here.state_directory / "exporter.json"), interval)
    with Server(address, fleet) as server:
        output.note(f"listening at {server.url}")
        fleet.start()
        try:
            server.serve_forever(poll_interval=0.2)
        finally:
            fleet.stop()
    return 0

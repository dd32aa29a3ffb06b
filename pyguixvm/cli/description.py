# SPDX-License-Identifier: GPL-3.0-or-later
"""The verbs that tell what a configuration comes to, and touch no machine: check, build, xml.

Each loads what it needs when it does: an evaluation takes little longer than that.
"""

from __future__ import annotations

import click

from pyguixvm.cli.build_options import build_options
from pyguixvm.cli.here import session
from pyguixvm.cli.options import (
    Options,
    common_options,
    config_arguments,
    on_option,
    split_config,
)
from pyguixvm.cli.output import Output
from pyguixvm.commands import evaluate
from pyguixvm.model.image import SystemImage


@click.command("check")
@config_arguments
@on_option
@build_options
@common_options
@click.pass_obj
def check_command(options: Options, arguments: tuple[str, ...], tags: tuple[str, ...]) -> int:
    """Evaluate CONFIG and report every error in it; nothing is built.

    The operating systems are lowered too, so that what Guix would refuse is
    refused now.
    """
    output = Output(options)
    config, machines = split_config(options, arguments)
    deployment = evaluate.evaluate(
        session(options, output), config, machines, want="systems", tags=tags, build=False
    )
    if output.json:
        from pyguixvm.cli import as_documents

        output.document(as_documents.checked(deployment))
    else:
        from pyguixvm.cli.show import declared_line

        for machine in deployment.machines:
            output.line(declared_line(machine))
    return 0


@click.command("build")
@config_arguments
@on_option
@click.option("--derivation", "-d", is_flag=True, help="Print the derivations; build nothing.")
@build_options
@common_options
@click.pass_obj
def build_command(
    options: Options, arguments: tuple[str, ...], tags: tuple[str, ...], derivation: bool
) -> int:
    """Build the images of the declared machines and print their file names."""
    output = Output(options)
    here = session(options, output)
    config, machines = split_config(options, arguments)
    deployment = evaluate.evaluate(here, config, machines, want="derivations", tags=tags)
    if derivation:
        built = [
            (machine.name, machine.image.derivation or "")
            for machine in deployment.machines
            if isinstance(machine.image, SystemImage)
        ]
    else:
        from pyguixvm.commands import build

        built = [(machine.name, image) for machine, image in build.build(here, deployment)]
    if output.json:
        from pyguixvm.cli import documents

        key = "derivation" if derivation else "image"
        found = (documents.BuiltMachine(machine=name, **{key: path}) for name, path in built)
        output.document(documents.Built(machines=tuple(found)))
    else:
        for _, path in built:
            output.line(path)
    return 0


@click.command("xml")
@config_arguments
@on_option
@build_options
@common_options
@click.pass_obj
def xml_command(options: Options, arguments: tuple[str, ...], tags: tuple[str, ...]) -> int:
    """Print the domain XML that deploy would define.

    Several machines are printed one after the other; name one to get it alone.
    """
    from pyguixvm.commands import definition

    output = Output(options)
    here = session(options, output)
    config, machines = split_config(options, arguments)
    deployment = evaluate.evaluate(here, config, machines, want="derivations", tags=tags)
    defined = definition.domain_documents(here, deployment.machines)
    if output.json:
        from pyguixvm.cli import documents

        found = (documents.DefinedMachine(machine=name, xml=xml) for name, xml in defined)
        output.document(documents.Defined(machines=tuple(found)))
    else:
        for _, xml in defined:
            output.verbatim(xml)
    return 0

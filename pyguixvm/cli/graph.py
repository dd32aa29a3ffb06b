# SPDX-License-Identifier: GPL-3.0-or-later
"""The verb that draws what is declared: graph."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from html import escape

import click

from pyguixvm.cli import documents
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
from pyguixvm.plan.graph import KINDS, Graph, Kind, Node, graph
from pyguixvm.printable import printable

_COLOURS: Mapping[Kind, str] = {
    "hypervisor": "#d9e2ec",
    "network": "#d6eadf",
    "pool": "#f5e6c8",
    "machine": "#cfe3f5",
    "disk": "#eadcf0",
}
# In pixels: a box, what is between boxes, and a character's width.
_HEIGHT, _GAP, _BETWEEN, _CHARACTER = 28, 14, 120, 7.5


@click.command("graph")
@config_arguments
@on_option
@click.option("--format", "form", type=click.Choice(["dot", "svg", "mermaid"]), default="dot",
              show_default=True, help="For Graphviz, a browser, or Markdown.")  # fmt: skip
@build_options
@common_options
@click.pass_obj
def graph_command(
    options: Options, arguments: tuple[str, ...], tags: tuple[str, ...], form: str
) -> int:
    """Draw what CONFIG declares: hypervisors, networks, pools, machines, disks.

    Dashed lines lead from machines to those that they require.
    """
    output = Output(options)
    here = session(options, output)
    config, machines = split_config(options, arguments)
    deployment = evaluate.evaluate(here, config, machines, want="metadata", tags=tags, build=False)
    default = here.given_uri or "libvirt's default"
    drawn = graph(deployment.machines, default)
    if output.json:
        output.document(documents.Drawn(nodes=drawn.nodes, edges=drawn.edges))
    else:
        output.verbatim("\n".join(_FORMS[form](drawn)))
    return 0


def dot(drawn: Graph) -> Iterator[str]:
    """Yield the lines of DRAWN in the language of Graphviz."""
    numbers = _numbers(drawn)
    yield "digraph {"
    yield '  rankdir=LR; node [shape=box, style=filled, fontname="sans"]; edge [fontname="sans"];'
    for node in drawn.nodes:
        yield f'  n{numbers[node.id]} [label={_quoted(node.label)}, fillcolor="{_colour(node)}"];'
    for edge in drawn.edges:
        style = ", style=dashed" if edge.label == "requires" else ""
        ends = f"n{numbers[edge.start]} -> n{numbers[edge.end]}"
        yield f"  {ends} [label={_quoted(edge.label)}{style}];"
    yield "}"


def mermaid(drawn: Graph) -> Iterator[str]:
    """Yield the lines of DRAWN in Mermaid's language."""
    numbers = _numbers(drawn)
    yield "graph LR"
    for node in drawn.nodes:
        yield f'  n{numbers[node.id]}["{_entities(node.label)}"]'
    for edge in drawn.edges:
        arrow = "-.->" if edge.label == "requires" else "-->"
        label = f'|"{_entities(edge.label)}"|' if edge.label else ""
        yield f"  n{numbers[edge.start]} {arrow}{label} n{numbers[edge.end]}"


def svg(drawn: Graph) -> Iterator[str]:
    """Yield the lines of DRAWN as a picture: a column for each kind, lines between them."""
    boxes = dict(_boxes(drawn))
    width = max((x + wide for x, _, wide in boxes.values()), default=0) + _GAP
    height = max((y for _, y, _ in boxes.values()), default=0) + _HEIGHT + _GAP
    yield (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height:.0f}" '
        f'width="{width:.0f}" height="{height:.0f}" font-family="sans-serif" font-size="13">'
    )
    for edge in drawn.edges:
        (x1, y1, wide), (x2, y2, _) = boxes[edge.start], boxes[edge.end]
        dashed = edge.label == "requires"
        start = (x1, y1 + _HEIGHT / 2) if dashed else (x1 + wide, y1 + _HEIGHT / 2)
        bend = -_BETWEEN / 3 if dashed else _BETWEEN / 2
        end = (x2, y2 + _HEIGHT / 2)
        other = end[0] + bend if dashed else end[0] - bend
        style = ' stroke-dasharray="4 3"' if dashed else ""
        yield (
            f'<path d="M {start[0]:.0f} {start[1]:.0f} C {start[0] + bend:.0f} {start[1]:.0f} '
            f'{other:.0f} {end[1]:.0f} {end[0]:.0f} {end[1]:.0f}" fill="none" '
            f'stroke="#667"{style}><title>{_text(edge.label)}</title></path>'
        )
    for node in drawn.nodes:
        x, y, wide = boxes[node.id]
        yield (
            f'<rect x="{x:.0f}" y="{y:.0f}" width="{wide:.0f}" height="{_HEIGHT}" rx="4" '
            f'fill="{_colour(node)}" stroke="#667"/><text x="{x + 8:.0f}" '
            f'y="{y + _HEIGHT * 0.66:.0f}">{_text(node.label)}</text>'
        )
    yield "</svg>"


def _boxes(drawn: Graph) -> Iterator[tuple[str, tuple[float, float, float]]]:
    """Yield left, top and width of the box of each node."""
    left = float(_GAP)
    for kind in KINDS:
        column = [node for node in drawn.nodes if node.kind == kind]
        if not column:
            continue
        wide = max(len(printable(node.label)) for node in column) * _CHARACTER + 2 * _GAP
        for row, node in enumerate(column):
            yield node.id, (left, _GAP + row * (_HEIGHT + _GAP), wide)
        left += wide + _BETWEEN


def _numbers(drawn: Graph) -> dict[str, int]:
    return {node.id: number for number, node in enumerate(drawn.nodes)}


def _colour(node: Node) -> str:
    return _COLOURS[node.kind]


def _quoted(text: str) -> str:
    escaped = printable(text).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{escaped}"'


def _text(text: str) -> str:
    return escape(printable(text))


def _entities(text: str) -> str:
    """Return TEXT for Mermaid, which takes # and a number and ; for a character."""
    return "".join(
        each if each.isalnum() or each in " -.:/+(),@_" else f"#{ord(each)};"
        for each in printable(text)
    )


_FORMS: Mapping[str, Callable[[Graph], Iterator[str]]] = {
    "dot": dot, "svg": svg, "mermaid": mermaid,
}  # fmt: skip

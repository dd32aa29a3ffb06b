# SPDX-License-Identifier: GPL-3.0-or-later
"""Tables that are tables to a screen reader however they are shown; pure.

A browser takes what a style sheet lays out otherwise, on a phone, for no table any more: all
of it says what it is.
"""

from __future__ import annotations

from collections.abc import Iterable

from pyguixvm.exporter.markup import Child, Markup, tag


def table(names: Iterable[str], rows: Iterable[Markup]) -> Markup:
    """Return a table of ROWS, whose columns are called NAMES."""
    heads = (tag("th", name, scope="col", role="columnheader") for name in names)
    head = tag("thead", tag("tr", *heads, role="row"), role="rowgroup")
    body = tag("tbody", *rows, role="rowgroup")
    return tag("div", tag("table", head, body, role="table"), class_="wide")


def row_header(text: str, column: str) -> Markup:
    """Return the cell of COLUMN that names its row TEXT."""
    return tag("th", text, scope="row", role="rowheader", data_label=column)


def cell_of(column: str, *children: Child, class_: str | None = None) -> Markup:
    """Return a cell of COLUMN with CHILDREN, which is of CLASS_."""
    return tag("td", *children, role="cell", data_label=column, class_=class_)

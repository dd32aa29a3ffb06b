# SPDX-License-Identifier: GPL-3.0-or-later
"""The fleet as a page for people, who may have no JavaScript, a phone, or a screen reader; pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from datetime import UTC, datetime

from pyguixvm.exporter.machines_table import machines_table
from pyguixvm.exporter.markup import Child, Markup, join, tag
from pyguixvm.exporter.tables import cell_of, row_header, table
from pyguixvm.exporter.view import ConfigurationView, FleetView, HypervisorView
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.rates import Rates
from pyguixvm.plan.status import MachineStatus

_TITLE = "Machines · pyguixvm"
# So many deploys are shown.
_MOST_DEPLOYS = 20
_FULL = 0.9


def page(view: FleetView, history: Callable[[str | None], tuple[Rates, ...]], now: float) -> str:
    """Return the page that the exporter serves; it renews itself where there is JavaScript."""
    head = (
        tag("link", rel="stylesheet", href="page.css"),
        tag("script", src="page.js", defer=True),
    )
    return _document(join(*head), content(view, history, now))


def static_page(
    view: FleetView, history: Callable[[str | None], tuple[Rates, ...]], now: float, style: str
) -> str:
    """Return a page that is whole by itself, with STYLE in it, and never changes."""
    return _document(tag("style", Markup(style)), content(view, history, now))


def _document(head: Markup, body: Markup) -> str:
    return "<!DOCTYPE html>\n" + tag(
        "html",
        tag(
            "head",
            tag("meta", charset="utf-8"),
            tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
            tag("meta", name="color-scheme", content="light dark"),
            tag("title", _TITLE),
            head,
        ),
        tag("body", tag("a", "Skip to the machines", href="#machines", class_="skip"), body),
        lang="en",
    )


def content(
    view: FleetView, history: Callable[[str | None], tuple[Rates, ...]], now: float
) -> Markup:
    """Return what is in the page, which is replaced whenever there is something new."""
    seen = datetime.fromtimestamp(now, UTC)
    return tag(
        "main",
        tag(
            "header",
            tag("h1", "Machines"),
            _summary(view),
            tag("p", "As of ", _time(seen, seconds=True), class_="when"),
        ),
        *_configurations(view),
        _section("Hypervisors", "hypervisors", _hypervisors(view)),
        _section("Machines", "machines", machines_table(view.statuses, history)),
        _section("What is where", "graph", _graph(view)),
        _section("Last deploys", "deploys", _deploys(view.statuses)),
        id="content",
    )


def _section(heading: str, id_: str, *children: Child) -> Markup:
    return tag(
        "section", tag("h2", heading, id=f"{id_}-heading"), *children,
        id=id_, aria_labelledby=f"{id_}-heading", tabindex="-1",
    )  # fmt: skip


def _summary(view: FleetView) -> Markup:
    counts = Counter(status.status for status in view.statuses)
    away = sum(1 for each in view.hypervisors if each.error is not None)
    words = [f"{count} {status}" for status, count in counts.most_common()]
    if away:
        words.append(f"{away} hypervisor{'' if away == 1 else 's'} away")
    good = not away and set(counts) <= {"deployed"}
    return tag(
        "p", ", ".join(words) or "There are no machines.", role="status",
        class_="good" if good else "bad",
    )  # fmt: skip


def _configurations(view: FleetView) -> Iterator[Markup]:
    if view.configurations:
        items = [tag("li", *_configuration(each)) for each in view.configurations]
        yield _section("Configurations", "configurations", tag("ul", *items))


def _configuration(view: ConfigurationView) -> Iterator[Child]:
    yield tag("code", view.path)
    if view.error is None:
        count = len(view.machines)
        yield f": {count} machine{'' if count == 1 else 's'}"
    else:
        yield tag("strong", f" does not evaluate: {view.error}", class_="bad")


def _hypervisors(view: FleetView) -> Markup:
    if not view.hypervisors:
        return tag("p", "None.")
    return tag("ul", *map(_hypervisor, view.hypervisors), class_="cards")


def _hypervisor(view: HypervisorView) -> Markup:
    domains = len(view.observation.domains) if view.observation else 0
    state = (
        tag("p", f"answers; {domains} domain{'' if domains == 1 else 's'}", class_="good")
        if view.error is None
        else tag("p", f"away: {view.error}", class_="bad")
    )
    pools = [
        tag(
            "li",
            f"pool {space.name}: {format_size(space.available)} of "
            f"{format_size(space.capacity)} free",
            class_="bad" if space.available < (1 - _FULL) * space.capacity else None,
        )
        for space in view.spaces
        if space.active
    ]
    return tag("li", tag("h3", view.uri), state, tag("ul", *pools) if pools else None)


def _graph(view: FleetView) -> Markup:
    """Hypervisors, the networks that connect machines there, and their machines."""
    items = []
    for each in view.hypervisors:
        ours = {status.name for status in each.statuses}
        networks: dict[str, list[str]] = {}
        for name, domain in each.observation.domains.items() if each.observation else ():
            if name in ours:
                found = {
                    i.network or "no network" for i in (domain.live or domain.defined).interfaces
                }
                for network in found or {"no network"}:
                    networks.setdefault(network, []).append(name)
        below = [
            tag("li", tag("span", network, class_="network"), tag("ul", *(
                tag("li", tag("a", name, href=f"#machine-{name}")) for name in sorted(names)
            )))
            for network, names in sorted(networks.items())
        ]  # fmt: skip
        items.append(tag("li", each.uri, tag("ul", *below) if below else None))
    return tag("ul", *items, class_="tree") if items else tag("p", "Nothing.")


def _deploys(statuses: tuple[MachineStatus, ...]) -> Markup:
    known = [(status.deploy, status) for status in statuses if status.deploy is not None]
    if not known:
        return tag("p", "None.")
    known.sort(key=lambda each: each[0].date, reverse=True)
    rows = [
        tag(
            "tr",
            cell_of("When", _date(deploy.date)),
            row_header(status.name, "Machine"),
            cell_of("Generation", deploy.generation),
            cell_of("By", deploy.by or "unknown"),
            cell_of("Took", "unknown" if deploy.seconds is None else f"{deploy.seconds:.0f} s"),
            cell_of("Ended", deploy.ended, class_=None if deploy.ended == "ready" else "bad"),
            role="row",
        )
        for deploy, status in known[:_MOST_DEPLOYS]
    ]
    return table(("When", "Machine", "Generation", "By", "Took", "Ended"), rows)


def _date(text: str) -> Markup:
    """Return TEXT, a date in ISO 8601, as people read it; anything else as it is."""
    try:
        when = datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError):
        return tag("span", text)
    return _time(when)


def _time(when: datetime, *, seconds: bool = False) -> Markup:
    """Return WHEN, which is in UTC, as people read it, with SECONDS if asked."""
    shown = f"{when:%Y-%m-%d %H:%M:%S} UTC" if seconds else f"{when:%Y-%m-%d %H:%M} UTC"
    return tag("time", shown, datetime=when.isoformat(timespec="seconds"))

# SPDX-License-Identifier: GPL-3.0-or-later
"""Whether a change goes back to older commits than a machine was deployed with; pure."""

from __future__ import annotations

from collections.abc import Iterable

from pyguixvm.errors import RequestRefusedError
from pyguixvm.model.applied import Metadata
from pyguixvm.model.observation import Observation
from pyguixvm.model.provenance import Ancestry, Checkout, Earlier, Provenance, Relation
from pyguixvm.plan.plan import MachinePlan, Policy

_ALLOW = "--allow-downgrades deploys it all the same."
# As long as Git shows commits.
_SHOWN = 7


def earlier(machines: Iterable[str], observation: Observation, now: Provenance) -> Earlier:
    """Return the commits that MACHINES in OBSERVATION were deployed with, other than NOW's."""
    domains = (observation.domains.get(name) for name in machines)
    found = [_recorded(domain.metadata) for domain in domains if domain and domain.metadata]
    then = [each.configuration for each in found if each.configuration and now.configuration]
    used = {(channel.name, channel.commit) for channel in now.channels}
    return Earlier(
        frozenset((c.name, c.commit) for each in found for c in each.channels) - used,
        frozenset(each.commit for each in then)
        - {now.configuration.commit if now.configuration else ""},
    )


def _recorded(metadata: Metadata) -> Provenance:
    return metadata.generation.provenance or Provenance()


def _same_repository(one: Checkout, other: Checkout) -> bool:
    """Whether a commit of ONE that is not in OTHER has yet to be fetched there."""
    if one.url and other.url:
        return one.url == other.url
    return one.directory == other.directory


def require_forward(
    plan: MachinePlan, metadata: Metadata, ancestry: Ancestry, policy: Policy
) -> None:
    """Raise if PLAN changes its machine by what is older than what that was deployed with.

    For channels that is what ``guix deploy`` asks.  Of the configuration another branch, or a
    commit that was amended, is no older one.
    """
    if policy.allow_downgrades or not (plan.actions and plan.differences):
        return
    name = plan.machine.name
    recorded, now, relations = _recorded(metadata), ancestry.now, ancestry.relations
    for channel in recorded.channels:
        relation = relations.channels.get((channel.name, channel.commit))
        if relation not in {None, "self", "ancestor"}:
            used = next(each.commit for each in now.channels if each.name == channel.name)
            raise RequestRefusedError(
                f"'{name}' was deployed with commit {channel.commit[:_SHOWN]} of channel "
                f"'{channel.name}', and {used[:_SHOWN]}, which is used now, is "
                f"{_said(relation)}",
                hint=f"Update this Guix ('guix pull'). {_ALLOW}",
            )
    then, here = recorded.configuration, now.configuration
    if then and here:
        relation = relations.configuration.get(then.commit)
        if relation == "descendant" or (relation == "unknown" and _same_repository(then, here)):
            raise RequestRefusedError(
                f"'{name}' was deployed from commit {then.commit[:_SHOWN]} of its configuration, "
                f"and {here.directory} is at {here.commit[:_SHOWN]}, which is {_said(relation)}",
                hint=f"Get what others committed ('git pull'). {_ALLOW}",
            )


def _said(relation: Relation | None) -> str:
    if relation == "unknown":
        return "not known to come after it: it is not there"
    return "older" if relation == "descendant" else "no descendant of it"

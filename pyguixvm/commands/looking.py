# SPDX-License-Identifier: GPL-3.0-or-later
"""Look at the hypervisors of some machines, and tell whose is what there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from pyguixvm.commands.session import Session
from pyguixvm.events import phase
from pyguixvm.model.declaration import VirtualMachine

if TYPE_CHECKING:
    # libvirt is loaded only by the runs that get as far as a hypervisor.
    from pyguixvm.commands.reach import Seen, Unseen
    from pyguixvm.hypervisor.observe import Depth
    from pyguixvm.plan.ownership import Owner


@dataclass(frozen=True)
class Looked:
    """What was SEEN of hypervisors, each with the deployment as seen from there, and UNSEEN."""

    seen: tuple[tuple[Seen, Owner], ...]
    unseen: tuple[Unseen, ...]


@contextmanager
def looked_at(
    session: Session,
    machines: Sequence[VirtualMachine],
    *,
    depth: Depth | None = None,
    config: str | None = None,
    deployment: str | None = None,
    hypervisors: Sequence[str | None] = (),
) -> Iterator[Looked]:
    """Connect to the hypervisors of MACHINES; yield what there is.

    The arguments, and what is raised, are as for `planning.observed`.
    """
    from pyguixvm.commands.images_here import with_images_here
    from pyguixvm.commands.reach import elsewhere, reached
    from pyguixvm.plan.ownership import owners

    with ExitStack() as opened:
        with phase(session.emit, "observe") as result:
            seen, unseen = reached(session, machines, opened, depth)
            result.detail = ", ".join(each.connection.uri for each in seen)
            others = elsewhere(session, seen, hypervisors, opened)
        here = session.state_directory
        seen = [
            replace(e, observation=with_images_here(e.observation, e.machines, here)) for e in seen
        ]
        found = [
            *((each.machines, each.observation) for each in seen),
            *(((), observation) for observation in others),
        ]
        unknown = {each.uri: each.machines for each in unseen}
        theirs = owners(found, name=deployment, complete=config is not None, unseen=unknown)
        yield Looked(tuple(zip(seen, theirs[: len(seen)], strict=True)), tuple(unseen))

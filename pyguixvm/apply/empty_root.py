# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the root volume of a system that runs from the store of its host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pyguixvm.apply.context import Workshop
from pyguixvm.apply.root_volume import Root, sent_root
from pyguixvm.events import phase
from pyguixvm.hypervisor import pools
from pyguixvm.image.blank import make_root
from pyguixvm.image.workplace import workplace
from pyguixvm.model.sizes import format_size
from pyguixvm.plan.actions import CreateEmptyRoot


@contextmanager
def created_empty_root(machine: str, action: CreateEmptyRoot, workshop: Workshop) -> Iterator[Root]:
    """Make the root volume of MACHINE that ACTION describes; it goes again if the body fails.

    When it counts as whole, and what is raised, is as for `created_root`.
    """
    with workshop.turns.at(action.pool):
        pools.ensure_pool(workshop.connection, action.pool)
    with workplace() as directory:
        file = directory / action.volume
        with phase(workshop.emit, "grow", machine) as result:
            make_root(file, action.size, action.label, action.system, directory)
            result.detail = f"{format_size(action.size)}, empty"
        with sent_root(machine, action.pool, file, workshop) as path:
            yield Root(action.pool, action.volume, path, (), None, action.system)

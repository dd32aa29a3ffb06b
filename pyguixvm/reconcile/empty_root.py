# SPDX-License-Identifier: GPL-3.0-or-later
"""Make the root volume of a system that runs from the store of its host."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

from pyguixvm.events import phase
from pyguixvm.hypervisor import pools, transfer
from pyguixvm.image.blank import make_root
from pyguixvm.image.workplace import workplace
from pyguixvm.model.sizes import format_size
from pyguixvm.reconcile.plan import CreateEmptyRoot
from pyguixvm.reconcile.root import Root
from pyguixvm.reconcile.workshop import Workshop


@contextmanager
def created_empty_root(machine: str, action: CreateEmptyRoot, workshop: Workshop) -> Iterator[Root]:
    """Make the root volume of MACHINE that ACTION describes; it goes again if the body fails.

    When it counts as whole, and what is raised, is as for `created_root`.
    """
    connection, emit = workshop.connection, workshop.emit
    pools.ensure_pool(connection, action.pool)
    with (
        workplace() as directory,
        ExitStack() as incomplete,
    ):
        file = directory / action.volume
        with phase(emit, "grow", machine) as result:
            make_root(file, action.size, action.label, action.system, directory)
            result.detail = f"{format_size(action.size)}, empty"
        with phase(emit, "transfer", machine) as result:
            volume = incomplete.enter_context(
                transfer.incomplete_volume(
                    connection, action.pool, action.volume, file, emit, machine
                )
            )
            result.detail = f"{format_size(volume.allocation)} in {volume.path}"
        yield Root(action.pool, action.volume, volume.path, None, None, action.system)

# SPDX-License-Identifier: GPL-3.0-or-later
"""Space where machines that move side by side go to."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator
from contextlib import contextmanager

from pyguixvm.apply.moved_volumes import Move, volume_there
from pyguixvm.events import Notice
from pyguixvm.hypervisor import pools
from pyguixvm.model.usage import Address


@contextmanager
def space_for(move: Move, addresses: Iterable[Address]) -> Iterator[None]:
    """Have space in the pools of the target for the volumes ADDRESSES alone in the body.

    Others that go there wait if it may not do for all.  Pools that it does not have are made, as
    for a machine that is deployed there.  Raises HypervisorError if there is not enough.
    """
    needed: Counter[str] = Counter()
    for pool, name in addresses:
        needed[pool] += volume_there(move.source, pool, name).allocation
    # Pools may have a file system in common.
    shares: defaultdict[int, dict[str, int]] = defaultdict(dict)
    for pool, size in needed.items():
        pools.ensure_pool(move.target, pool)
        shares[pools.file_system(move.target, pool)][pool] = size
    sums = {each: sum(share.values()) for each, share in shares.items()}

    def require(file_system: int, size: int) -> None:
        beside, what = size - sums[file_system], f"machine '{move.name}'"
        pools.require_space_together(move.target, shares[file_system], beside, what)

    def waits() -> None:
        text = f"waits: there may not be space on {move.target.uri} beside what is on its way there"
        move.emit(Notice(text, move.name))

    with move.shared.space.of(move.target.uri, sums, require, waits):
        yield

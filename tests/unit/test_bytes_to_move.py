# SPDX-License-Identifier: GPL-3.0-or-later
"""How much a new root volume takes to send, on a real image with a real database."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

import msgspec
import pytest
from declarations import content, machine
from images import MIB, make_system_image

from pyguixvm.apply.root_to_be import transfer
from pyguixvm.digest.memory import Digests
from pyguixvm.events import ignore
from pyguixvm.guix.store import Store
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.model.image import Derivation
from pyguixvm.model.store_item import StoreItem
from pyguixvm.plan.actions import CreateRoot, RealizeImage
from pyguixvm.plan.strategies.full import new_root

NO_DIGESTS = Digests(Path("/dev/null/state"))
PRESENT = {f"/gnu/store/{'a' * 32}-old": 10 * MIB}
HERE = Connection(
    uri="qemu:///system", local=True, handle=None, events=None, resolved=None, offered=None,
    which=None,
)  # fmt: skip


class Beyond(Store):
    """A store in which what is wanted is SIZE bytes larger than what is present."""

    def __init__(self, size: int) -> None:
        super().__init__(lambda: pytest.fail("Guix was asked"), ignore)
        object.__setattr__(self, "size", size)

    def items_beyond(self, present: Iterable[str], wanted: Sequence[str]) -> tuple[StoreItem, ...]:
        assert set(present) == PRESENT.keys()
        size: int = vars(self)["size"]
        return tuple(StoreItem(each, "sha256:00", size // len(wanted), ()) for each in wanted)


@pytest.fixture
def action(tmp_path: Path) -> CreateRoot:
    """Return the making of an increment of which nothing but the base is built."""
    outputs = {name: str(tmp_path / name) for name in ("new-system", "grub.cfg", "whole")}
    wanted = content(
        system=Derivation("/gnu/store/new-system.drv", outputs["new-system"]),
        boot_configuration=Derivation("/gnu/store/grub.cfg.drv", outputs["grub.cfg"]),
    )
    return msgspec.structs.replace(
        new_root(machine(), 2),
        image=str(make_system_image(tmp_path, PRESENT)),
        content=wanted,
        whole=RealizeImage(derivation="/gnu/store/whole.drv", output=outputs["whole"]),
    )


def moved(action: CreateRoot, size: int, connection: Any = HERE) -> int | None:
    found = transfer(connection, machine(), action, Beyond(size), NO_DIGESTS)
    return None if found is None else found.size


def test_what_changed_is_unknown_until_it_is_built(action: CreateRoot, tmp_path: Path) -> None:
    assert moved(action, 2 * MIB) is None
    (tmp_path / "new-system").mkdir()
    assert moved(action, 2 * MIB) is None
    (tmp_path / "grub.cfg").touch()
    assert moved(action, 2 * MIB) == 2 * MIB


def test_what_is_too_much_for_an_increment_is_sent_as_a_whole(
    action: CreateRoot, tmp_path: Path
) -> None:
    (tmp_path / "new-system").mkdir()
    (tmp_path / "grub.cfg").touch()
    assert moved(action, 8 * MIB) is None
    (tmp_path / "whole").write_bytes(bytes(MIB))
    # The image in the store of this very machine is not sent at all.
    assert moved(action, 8 * MIB) == 0


def test_what_cannot_be_grown_without_moving_data_is_sent_as_a_whole(
    action: CreateRoot, tmp_path: Path
) -> None:
    (tmp_path / "new-system").mkdir()
    (tmp_path / "grub.cfg").touch()
    larger = msgspec.structs.replace(action, size=8 * 1024**4)
    assert moved(larger, 2 * MIB) is None
    (tmp_path / "whole").write_bytes(bytes(MIB))
    assert moved(larger, 2 * MIB) == 0

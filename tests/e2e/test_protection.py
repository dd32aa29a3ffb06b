# SPDX-License-Identifier: GPL-3.0-or-later
"""What is declared as protected is not taken away, whatever is asked.

The guest is one of a sector, which heeds its power button.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import boot_sector
import pytest
from running import Ran, pyguixvm, virsh

NAME = "protected"
MACHINE = """
(virtual-machine
  (name "protected")
  (image (local-image "{image}"))
  (libvirt-domain (memory 64M) (storage 16M))
  (protect? {protect})
  (ready (list (console "up"))))
"""


@pytest.fixture(scope="module")
def directory(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Deploy two generations of a machine, of images that are here; then it is protected."""
    made = tmp_path_factory.mktemp("images")
    for name in ("one", "two", "three"):
        sector = boot_sector.heeding_button(f"{name} is up\r\n")
        (made / name).write_bytes(boot_sector.on_disk(sector))
    pyguixvm("undefine", "--yes", "--unprotect", NAME)
    for image in ("one", "two"):
        deployed = deploy(made, image, "#f")
        assert deployed.status == 0, deployed.err
    process = virsh("domid", NAME)
    assert deploy(made, "two").status == 0
    assert virsh("domid", NAME) == process
    yield made
    pyguixvm("undefine", "--yes", "--unprotect", NAME)


def deploy(directory: Path, image: str, protect: str = "#t") -> Ran:
    config = directory / "config.scm"
    config.write_text(MACHINE.format(image=image, protect=protect))
    return pyguixvm("deploy", config)


@pytest.mark.parametrize("verb", ["destroy", "undefine --yes", "rollback"])
def test_a_protected_machine_is_not_taken_away(directory: Path, verb: str) -> None:
    process = virsh("domid", NAME)
    refused = pyguixvm(*verb.split(), NAME)
    assert refused.status == 1
    assert "'protected' is protected" in refused.err
    assert "--unprotect" in refused.err
    assert virsh("domid", NAME) == process


def test_a_protected_machine_keeps_its_root(directory: Path) -> None:
    refused = deploy(directory, "three")
    assert refused.status == 1
    assert "needs a new root volume, and is protected" in refused.err
    assert deploy(directory, "two", "#f").status == 0

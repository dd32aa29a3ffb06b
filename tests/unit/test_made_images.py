# SPDX-License-Identifier: GPL-3.0-or-later
"""What is remembered of the images that were made on this machine."""

from __future__ import annotations

from pathlib import Path

from declarations import content, machine, system

from pyguixvm.guix.made_images import MadeImages
from pyguixvm.model.declaration import VirtualMachine
from pyguixvm.model.image import LocalImage

FIRST, SECOND, THIRD = (f"/gnu/store/{letter * 32}-disk-image" for letter in "abc")


def declared(layout: str) -> VirtualMachine:
    return machine(image=system(content=content(layout=layout)))


def test_the_newest_of_each_layout_is_known(tmp_path: Path) -> None:
    made = MadeImages(tmp_path / "state", built=lambda _: True)
    assert made.there() == {}
    for layout, image in (("mbr", FIRST), ("gpt", SECOND), ("mbr", THIRD)):
        made.keep(declared(layout), image)
    assert made.there() == {"mbr": THIRD, "gpt": SECOND}


def test_one_that_was_collected_is_not(tmp_path: Path) -> None:
    made = MadeImages(tmp_path, built=lambda image: image == SECOND)
    made.keep(declared("mbr"), FIRST)
    made.keep(declared("gpt"), SECOND)
    assert made.there() == {"gpt": SECOND}
    assert MadeImages(tmp_path).there() == {}


def test_on_an_image_as_it_is_nothing_stands(tmp_path: Path) -> None:
    made = MadeImages(tmp_path, built=lambda _: True)
    local = machine(image=LocalImage(path="/a.qcow2", format="qcow2", size=1, modified=1))
    made.keep(local, FIRST)
    made.keep(machine(image=system()), FIRST)
    assert made.there() == {}


def test_what_others_put_there_is_no_image(tmp_path: Path) -> None:
    made = MadeImages(tmp_path, built=lambda _: True)
    made.keep(declared("mbr"), FIRST)
    (tmp_path / "made-images/gpt").symlink_to("/etc/passwd")
    (tmp_path / "made-images/raw").write_text(SECOND)
    assert made.there() == {"mbr": FIRST}


def test_where_nothing_can_be_kept_nothing_is(tmp_path: Path) -> None:
    (tmp_path / "made-images").write_text("")
    made = MadeImages(tmp_path, built=lambda _: True)
    made.keep(declared("mbr"), FIRST)
    assert made.there() == {}

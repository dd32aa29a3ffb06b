# SPDX-License-Identifier: GPL-3.0-or-later
"""Disk images become volumes elsewhere: by their bits, or composed of store items there."""

from __future__ import annotations

import os
from collections.abc import Callable, Collection, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from pyguixvm.apply.contents import Contents
from pyguixvm.apply.context import Workshop
from pyguixvm.events import Count, Notice
from pyguixvm.guix import archive
from pyguixvm.guix.command import scheme_directory
from pyguixvm.hypervisor import pools
from pyguixvm.hypervisor.composed import composed
from pyguixvm.hypervisor.connection import Connection
from pyguixvm.hypervisor.far_guix import FarGuix, FarGuixError
from pyguixvm.hypervisor.new_volume import NewVolume, Place
from pyguixvm.hypervisor.sending import data_extents, size_of
from pyguixvm.hypervisor.upload import uploader
from pyguixvm.hypervisor.volumes import Volume
from pyguixvm.image.recipe import Recipe, recipe
from pyguixvm.model.transfer import Lacking, Transfer, Via
from pyguixvm.plan import transfer as ways

_PROGRAM = "pyguixvm/build/composition.scm"


@dataclass(frozen=True)
class Composition:
    """How an image is composed by the Guix of a host that is LACKING some of ITEMS.

    SIZE is how many bytes are sent for it.
    """

    size: int
    items: Collection[str]
    lacking: Lacking
    recipe: Recipe


def way(
    connection: Connection, pool: str, image: Path, contents: Callable[[], Contents], via: Via
) -> tuple[Transfer, Composition | None]:
    """Return how IMAGE, which holds CONTENTS, gets to POOL as VIA wants; None if by its bits.

    Nothing is sent but the question what is there.  Raises RequestRefusedError if what VIA asks
    for is not possible.
    """
    with image.open("rb") as file:
        upload = size_of(data_extents(file))
        if connection.local or via == "upload":
            return Transfer("upload", upload), None
        there = contents()
        if not there.sizes:
            return Transfer(
                "upload", upload, reason="it does not tell what it has of a store"
            ), None
        found = recipe(file, sorted(there.here))
    copied = found.bytes_copied
    chosen, lacking = _chosen(connection, pool, there, via, upload, copied, found.bytes_to_send)
    if lacking is None:
        return chosen, None
    return chosen, Composition(chosen.size, there.all, lacking, found)


def way_unmade(connection: Connection, pool: str, contents: Contents, via: Via) -> Transfer:
    """Return about how a volume would get to POOL that is to hold CONTENTS, as `way` does."""
    size = sum(contents.sizes.values())
    if connection.local or via == "upload":
        return Transfer("upload", size)
    return _chosen(connection, pool, contents, via, size, size, 0)[0]


def _chosen(  # noqa: PLR0917 -- where to, what, and by which way how much is sent
    connection: Connection,
    pool: str,
    contents: Contents,
    via: Via,
    upload: int,
    copied: int,
    besides: int,
) -> tuple[Transfer, Lacking | None]:
    """Return the way that VIA wants, of UPLOAD bytes, or by CONTENTS and BESIDES bytes.

    COPIED are not sent by the latter; then, what is lacking there is returned, too.
    """
    if not ways.is_worth_asking(via, copied):
        return Transfer("upload", upload), None
    try:
        lacking = _lacking(connection, pool, contents)
    except FarGuixError as error:
        return ways.chosen(via, upload, error), None
    chosen = ways.chosen(via, upload, ways.by_store(contents.sizes, lacking, besides))
    return chosen, None if chosen.way == "upload" else lacking


def _lacking(connection: Connection, pool: str, contents: Contents) -> Lacking:
    """Return what of CONTENTS the host of CONNECTION lacks.

    Raises FarGuixError, also if that cannot all be sent.
    """
    there = pools.find_pool(connection, pool)
    directory = there.path if there else pools.default_directory(connection, pool)
    lacking = _far_guix(connection).lacking(contents.all, directory)
    if not lacking.sent <= contents.here:
        raise FarGuixError("its store lacks items that are not here to be sent")
    return lacking


def placing(
    workshop: Workshop, machine: str | None, contents: Callable[[], Contents], via: Via
) -> Place:
    """Return what makes volumes of an image, which holds CONTENTS, as VIA wants.

    They are as those that are `uploaded`, and the same is raised; RequestRefusedError, too, if
    what VIA asks for is not possible, and FarGuixError.
    """
    connection = workshop.connection

    @contextmanager
    def place(image: Path, volume: NewVolume) -> Iterator[Volume]:
        chosen, composition = way(connection, volume.pool, image, contents, via)
        with ExitStack() as making:
            made = None
            if composition is not None:
                workshop.emit(Notice(f"{volume.name} is {ways.in_words(chosen)}", machine))
                try:
                    made = making.enter_context(
                        _composed(workshop, machine, image, composition, volume)
                    )
                except FarGuixError as error:
                    if via == "store":
                        raise
                    workshop.warn(machine or volume.name, f"its bits are sent: {error.message}")
            elif chosen.reason is not None:
                workshop.emit(Notice(f"its bits are sent: {chosen.reason}", machine))
            yield made or making.enter_context(
                uploader(connection, workshop.emit, machine)(image, volume)
            )

    return place


def _composed(
    workshop: Workshop,
    machine: str | None,
    image: Path,
    composition: Composition,
    volume: NewVolume,
) -> AbstractContextManager[Volume]:
    def write(file: str) -> None:
        def give(pipe: IO[bytes]) -> None:
            _give(pipe, image, composition, workshop, machine)

        _far_guix(workshop.connection).compose(file, give)

    return composed(workshop.connection, volume, image, write, workshop.emit, machine)


def _give(
    pipe: IO[bytes],
    image: Path,
    composition: Composition,
    workshop: Workshop,
    machine: str | None,
) -> None:
    """Write to PIPE what the program there reads to compose IMAGE as COMPOSITION says."""
    made, lacking = composition.recipe, composition.lacking
    count = Count(workshop.emit, "transfer", composition.size, machine)
    with image.open("rb") as file:
        for at, length in made.sent:
            pipe.write(b"sent %d %d\n" % (at, length))
            pipe.write(os.pread(file.fileno(), length, at))
            count.add(length)
    for copied in made.copied:
        line = f"copied {copied.at} {copied.length} {copied.begin} {copied.file}\n"
        pipe.write(line.encode())
    pipe.write("".join(f"needs {item}\n" for item in composition.items).encode())
    pipe.write("".join(f"fetches {item}\n" for item in lacking.fetched).encode())
    if lacking.sent:
        pipe.write(b"imports\n")
        pipe.flush()
        archive.export(workshop.environment, sorted(lacking.sent), pipe, count.add)
    else:
        pipe.write(b"copies\n")


def _far_guix(connection: Connection) -> FarGuix:
    return FarGuix(connection.uri, scheme_directory() / _PROGRAM, archive.public_key(os.environ))

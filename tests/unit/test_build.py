# SPDX-License-Identifier: GPL-3.0-or-later
"""Building and rooting, with a guix of the test's own that writes down how it was called."""

from __future__ import annotations

import bz2
import gzip
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from pyguixvm.errors import BuildError
from pyguixvm.events import BuildOutput, Event
from pyguixvm.guix.build import clean, realize, remove_root, root_path

FAKE_GUIX = """#!/bin/sh
echo "$*" >> calls
printf 'building %s...\\n' "$GUIX_BUILD_OPTIONS" >&2
for argument; do
    case $argument in
        --root=*) root=${{argument#--root=}} ;;
        *.drv) output=${{argument%.drv}}; : > "$output" ;;
    esac
done
[ -z "$root" ] || ln -s "$output" "$root"
{end}
"""


class Place:
    """A store, a state directory and a guix below one directory."""

    def __init__(self, directory: Path, end: str = "") -> None:
        self.directory = directory
        self.store = directory / "store"
        self.store.mkdir()
        self.guix = directory / "guix"
        self.guix.write_text(FAKE_GUIX.format(end=end).replace("calls", str(directory / "calls")))
        self.guix.chmod(0o755)
        self.events: list[Event] = []

    def outputs(self, *names: str) -> dict[str, str]:
        return {str(self.store / f"{name}.drv"): str(self.store / name) for name in names}

    def roots(self, *names: str) -> dict[str, list[Path]]:
        return {
            str(self.store / f"{name}.drv"): [
                root_path(self.directory / "state", "qemu:///system", name, 1)
            ]
            for name in names
        }

    def realize(self, outputs: dict[str, str], roots: dict[str, list[Path]]) -> bool:
        return realize(
            outputs,
            roots,
            guix=self.guix,
            environment={"PATH": os.environ["PATH"], "GUIX_BUILD_OPTIONS": "--cores=1"},
            emit=self.events.append,
        )

    @property
    def calls(self) -> list[str]:
        file = self.directory / "calls"
        text = file.read_text() if file.exists() else ""
        return text.replace(str(self.store) + "/", "").splitlines()


def test_one_image_is_built_and_rooted_by_one_command(tmp_path: Path) -> None:
    place = Place(tmp_path)
    roots = place.roots("a")
    (root,) = roots[str(place.store / "a.drv")]
    assert place.realize(place.outputs("a"), roots)
    assert place.calls == [f"build --verbosity=1 --root={root} a.drv"]
    assert root.readlink() == place.store / "a"
    assert place.events == [BuildOutput(line="building --cores=1...")]


def test_several_are_built_together_and_rooted_after_that(tmp_path: Path) -> None:
    place = Place(tmp_path)
    assert place.realize(place.outputs("a", "b"), place.roots("a", "b"))
    assert place.calls[0] == "build --verbosity=1 --keep-going a.drv b.drv"
    assert [call.split()[-1] for call in place.calls[1:]] == ["a.drv", "b.drv"]


def test_what_is_there_and_rooted_takes_no_command(tmp_path: Path) -> None:
    place = Place(tmp_path)
    place.realize(place.outputs("a", "b"), place.roots("a", "b"))
    calls = place.calls
    assert not place.realize(place.outputs("a", "b"), place.roots("a", "b"))
    assert not place.realize(place.outputs("a", "b"), {})
    assert place.calls == calls


def test_a_root_that_leads_elsewhere_is_replaced(tmp_path: Path) -> None:
    place = Place(tmp_path)
    roots = place.roots("a")
    (root,) = roots[str(place.store / "a.drv")]
    root.parent.mkdir(parents=True)
    root.symlink_to("/gnu/store/collected")
    assert place.realize(place.outputs("a"), roots)
    assert root.readlink() == place.store / "a"


def test_what_somebody_else_is_building_is_waited_for(tmp_path: Path) -> None:
    place = Place(tmp_path)
    (place.store / "a").touch()
    (place.store / "a.lock").touch()
    assert place.realize(place.outputs("a"), {})
    assert place.calls == ["build --verbosity=1 --keep-going a.drv"]


@pytest.mark.parametrize(
    ("suffix", "compress"), [(".gz", gzip.compress), (".bz2", bz2.compress), ("", bytes)]
)
def test_a_failure_shows_the_end_of_the_log(
    tmp_path: Path, suffix: str, compress: Callable[[bytes], bytes]
) -> None:
    log = tmp_path / f"a.drv{suffix}"
    log.write_bytes(compress(b"".join(b"line %d\n" % number for number in range(50))))
    end = f"""
echo "View build log at '{log}'." >&2
echo "guix build: error: build of \\`/gnu/store/a.drv' failed" >&2
exit 1"""
    place = Place(tmp_path, end)
    with pytest.raises(BuildError, match=r"build of `/gnu/store/a\.drv' failed") as caught:
        place.realize(place.outputs("a"), {})
    error = caught.value
    assert error.status == 4
    assert error.log == str(log)
    assert error.tail == tuple(f"line {number}" for number in range(30, 50))


def test_without_the_log_the_output_is_shown(tmp_path: Path) -> None:
    place = Place(tmp_path, "echo \"View build log at '/no/such/log.gz'.\" >&2; exit 1")
    with pytest.raises(BuildError) as caught:
        place.realize(place.outputs("a"), {})
    assert caught.value.log == "/no/such/log.gz"
    assert caught.value.tail[0] == "building --cores=1..."


def test_a_daemon_that_does_not_run_is_named(tmp_path: Path) -> None:
    words = "failed to connect to \\`/var/guix/daemon-socket/socket': No such file or directory"
    place = Place(tmp_path, f'echo "guix build: error: {words}" >&2; exit 1')
    with pytest.raises(BuildError, match="failed to connect") as caught:
        place.realize(place.outputs("a"), {})
    assert caught.value.hint == "Is guix-daemon running?"


@pytest.mark.parametrize(
    ("line", "shown"),
    [
        ("plain", "plain"),
        ("\x1b[1;32mok\x1b[0m", "ok"),
        ("\r\x1b[K 98% ▕██▏\r\x1b[K100% ▕███▏", "100% ▕███▏"),
        ("ends so\r\n", "ends so"),
        ("\x1b[K", ""),
    ],
)
def test_lines_are_shown_as_a_terminal_would(line: str, shown: str) -> None:
    assert clean(line) == shown


def test_roots_are_apart_for_each_hypervisor_machine_and_generation() -> None:
    state = Path("/s")
    assert root_path(state, "qemu+ssh://root@host/system", "web", 2) == Path(
        "/s/gc-roots/qemu%2Bssh%3A%2F%2Froot%40host%2Fsystem/web/2"
    )


def test_removing_the_last_root_leaves_no_directory(tmp_path: Path) -> None:
    one = root_path(tmp_path, "qemu:///system", "web", 1)
    other = root_path(tmp_path, "qemu:///system", "web", 2)
    one.parent.mkdir(parents=True)
    for root in (one, other):
        root.symlink_to("/gnu/store/x")
    remove_root(one)
    assert other.is_symlink()
    remove_root(other)
    remove_root(other)
    assert list(tmp_path.iterdir()) == []

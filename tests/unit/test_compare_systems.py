# SPDX-License-Identifier: GPL-3.0-or-later
"""A changed operating system, told as the packages, services and files that are about it."""

from __future__ import annotations

from pathlib import Path

import pytest

from pyguixvm.cli.differences import system_lines
from pyguixvm.guix.compare_systems import Derivation, read_derivation, system_changes
from pyguixvm.model.system_change import SystemChange


class Store:
    """A store of derivations, each edition of an item by its name and a letter."""

    def __init__(self) -> None:
        self._there: dict[str, Derivation] = {}

    def item(self, name: str, edition: str = "a") -> str:
        return f"/gnu/store/{edition * 32}-{name}"

    def add(
        self, name: str, *inputs: str, edition: str = "a", sources: tuple[str, ...] = ()
    ) -> str:
        path = self.item(f"{name}.drv", edition)
        self._there[path] = Derivation(frozenset(inputs), frozenset(sources))
        return path

    def read(self, path: str) -> Derivation:
        try:
            return self._there[path]
        except KeyError as error:
            raise FileNotFoundError(path) from error

    def changes(self, old: str, new: str) -> list[str]:
        return list(system_lines(system_changes(old, new, self.read)))


@pytest.fixture
def store() -> Store:
    return Store()


def test_packages_come_go_and_change_with_the_profile(store: Store) -> None:
    hello, old, new = (store.add(name) for name in ("hello-2.12", "openssh-9.8", "openssh-10.2p1"))
    bash, bash_again = store.add("bash-5.2"), store.add("bash-5.2", edition="b")
    hook, hook_again = store.add("manual-database"), store.add("manual-database", edition="b")
    before = store.add("profile", hello, old, bash, hook)
    after = store.add("profile", hello, new, bash_again, hook_again, edition="b")
    systems = store.add("system", before), store.add("system", after, edition="b")
    assert store.changes(*systems) == ["packages: ~bash-5.2, +openssh-10.2p1, -openssh-9.8"]


def test_services_are_told_by_their_name_once(store: Store) -> None:
    conf = store.add("shepherd.conf", store.add("shepherd-nscd.go"))
    written = store.add("shepherd-ssh-daemon.scm"), store.add("shepherd-ssh-daemon.go")
    conf_again = store.add("shepherd.conf", *written, edition="b")
    systems = store.add("system", conf), store.add("system", conf_again, edition="b")
    assert store.changes(*systems) == ["services: -nscd, +ssh-daemon"]


def test_a_file_is_told_and_not_what_is_made_of_it(store: Store) -> None:
    edited = store.item("motd", "a"), store.item("motd", "b")
    etc = [store.add("etc", edition=e, sources=(s,)) for e, s in zip("ab", edited, strict=True)]
    activate = [
        store.add("activate-service.scm", e, edition=n) for e, n in zip(etc, "ab", strict=True)
    ]
    old, new = (
        store.add("system", one, other, edition=edition)
        for one, other, edition in zip(etc, activate, "ab", strict=True)
    )
    assert store.changes(old, new) == ["files: ~motd"]


def test_what_is_made_another_way_of_the_same_is_itself_what_changed(store: Store) -> None:
    builders = [(store.item("sshd_config-builder", edition),) for edition in "ab"]
    made = [
        store.add("sshd_config", edition=e, sources=s) for e, s in zip("ab", builders, strict=True)
    ]
    old, new = (store.add("system", m, edition=e) for m, e in zip(made, "ab", strict=True))
    assert store.changes(old, new) == ["files: ~sshd_config"]


def test_items_of_one_name_are_compared_together(store: Store) -> None:
    """Which of them was which before, nobody can say."""
    etc, accounts, ssh = (store.add(name) for name in ("etc", "accounts", "keys"))
    before = [
        store.add("activate-service.scm", etc, edition="a"),
        store.add("activate-service.scm", accounts, edition="b"),
    ]
    after = [
        store.add("activate-service.scm", accounts, ssh, edition="c"),
        store.add("activate-service.scm", etc, edition="d"),
    ]
    old, new = store.add("system", *before), store.add("system", *after, edition="b")
    assert store.changes(old, new) == ["files: +keys"]


def test_of_a_derivation_that_was_collected_nothing_is_known(store: Store) -> None:
    there = store.add("system")
    assert system_changes(store.item("system.drv", "b"), there, store.read) == ()


@pytest.mark.parametrize("path", ["/etc/passwd", "/gnu/store/../../etc/shadow.drv", ""])
def test_what_is_no_derivation_by_its_name_is_not_read(path: str) -> None:
    def read(found: str) -> Derivation:
        raise AssertionError(f"{found} was read")

    assert system_changes(path, path, read) == ()


def test_a_derivation_is_read_from_its_file(tmp_path: Path) -> None:
    item = "/gnu/store/" + "a" * 32
    file = tmp_path / "x.drv"
    file.write_text(
        f'Derive([("out","{item}-x","","")],[("{item}-one.drv",["out"]),("{item}-two.drv",["lib",'
        f'"out"])],["{item}-builder","{item}-source"],"x86_64-linux","/bin/sh",["-c"],[("a","b")])'
    )
    read = read_derivation(str(file))
    assert read.inputs == {f"{item}-one.drv", f"{item}-two.drv"}
    assert read.sources == {f"{item}-builder", f"{item}-source"}
    file.write_text("nothing")
    with pytest.raises(ValueError, match="is no derivation"):
        read_derivation(str(file))


def test_hundreds_are_counted() -> None:
    changes = [SystemChange("package", f"p{number:03}-1", "changed") for number in range(400)]
    (line,) = system_lines(changes)
    assert line.startswith("packages: ~p000-1, ")
    assert line.endswith(", and 388 more")

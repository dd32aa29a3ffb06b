# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is edited is seen, by an evaluator that has a usual system in its caches, as by guix.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_edits.py``.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

import pytest
from evaluating import (
    ENVIRONMENT,
    Evaluator,
    evaluate_once,
    expected,
    only_image,
    request,
    system,
)

pytestmark = pytest.mark.guix

SERVICES = """\
(cons* (service dhcpcd-service-type)
       (extra-special-file "/etc/note" (local-file "note.txt"))
       (extra-special-file "/etc/notes" (local-file "notes" #:recursive? #t))
       (extra-special-file "/etc/text" (plain-file "text" "a text"))
       (extra-special-file "/etc/variable"
                           (plain-file "variable" (or (getenv "VARIABLE") "none")))
       (extra-special-file "/etc/library" (library-file 1))
       (simple-service 'edited activation-service-type
                       #~(begin (display "activated") #$(plain-file "of-code" "a file")))
       (modify-services %base-services
         (guix-service-type config =>
           (guix-configuration (inherit config) (log-compression 'gzip)))))"""

LIBRARY = """\
(define-module (library)
  #:use-module (guix gexp)
  #:export (library-file))
(define (library-file number)
  (computed-file "library"
                 #~(call-with-output-file #$output
                     (lambda (port)
                       (write '(#$number "a library") port)))))
"""


@dataclass(frozen=True)
class Edit:
    """FILE gets AFTER where it has BEFORE, or the environment gets VARIABLES."""

    file: str = "config.scm"
    before: str = ""
    after: str = ""
    variables: dict[str, str] = field(default_factory=dict)


EDITS = {
    "a name": Edit(before='"web"', after='"web2"'),
    "a text": Edit(before="a text", after="another text"),
    "code": Edit(before='"activated"', after='"now"'),
    "a file in code": Edit(before='"a file"', after='"another file"'),
    "an argument of what a module makes": Edit(before="library-file 1", after="library-file 2"),
    "a type of value": Edit(before="library-file 1", after='library-file "1"'),
    "a field of a service": Edit(before="'gzip", after="'none"),
    "a service less": Edit(before="(service dhcpcd-service-type)", after=""),
    "a kernel argument": Edit(before="console=ttyS0", after="console=ttyS1"),
    "a module beside": Edit("modules/library.scm", '"a library"', '"another library"'),
    "a local file": Edit("note.txt", "noted", "noted again"),
    "a file in a directory": Edit("notes/deep/one", "one", "two"),
    "a variable of the environment": Edit(variables={"VARIABLE": "set"}),
}


# What one process cannot have in two versions.
OF_A_PROCESS = {"a module beside", "a variable of the environment"}

TWO_MACHINES = """\
(list (virtual-machine (name "before") (operating-system (load "{before}")))
      (virtual-machine (name "after") (operating-system (load "{after}"))))
"""

# Which of Guix's modules for programs in guests are edited, none of which an evaluator loads.
OF_GUESTS = ("activation", "linux-boot", "shepherd")


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    running = Evaluator(tmp_path_factory.mktemp("evaluator") / "socket")
    yield running
    running.stop()


def write(directory: Path, edit: Edit | None = None) -> Path:
    """Write a configuration that takes what it declares from all kinds of places."""
    modules = directory / "modules"
    texts = {
        "config.scm": f'(add-to-load-path "{modules}")\n(use-modules (guix gexp) (library))\n'
        + system("web", services=SERVICES),
        "modules/library.scm": LIBRARY,
        "note.txt": "noted",
        "notes/deep/one": "one",
    }
    if edit is not None and edit.before:
        assert edit.before in texts[edit.file]
        texts[edit.file] = texts[edit.file].replace(edit.before, edit.after)
    for name, text in texts.items():
        file = directory / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return directory / "config.scm"


@pytest.fixture(scope="module")
def of_guix(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str | None], str]:
    """Return what tells the derivation that guix computes for the edit of a NAME, or for none.

    It is the same wherever the files are: no name of a directory gets into it.
    """

    @cache
    def computed(name: str | None) -> str:
        edit = None if name is None else EDITS[name]
        config = write(tmp_path_factory.mktemp("reference"), edit)
        return expected(config, "mbr-hybrid-raw", edit.variables if edit else {})

    return computed


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_seen(
    evaluator: Evaluator, of_guix: Callable[[str | None], str], tmp_path: Path, name: str
) -> None:
    edit = EDITS[name]

    def derivations(edit: Edit | None, variables: dict[str, str]) -> set[str]:
        # Each is answered by a process that knows the usual system, and none of the others.
        config = write(tmp_path, edit)
        asked = request(config, environment={**ENVIRONMENT, **variables})
        return {only_image(evaluator.ask(asked))["derivation"] for _ in range(2)}

    before = derivations(None, {})
    after = derivations(edit, edit.variables)
    assert before == {of_guix(None)}
    assert after == {of_guix(name)}
    assert before.isdisjoint(after)


@pytest.mark.parametrize("name", sorted(EDITS.keys() - OF_A_PROCESS))
def test_machines_of_one_file_have_each_their_own(
    evaluator: Evaluator, of_guix: Callable[[str | None], str], tmp_path: Path, name: str
) -> None:
    """What is made for one of them may be like what is made for the other, and need not be it."""
    before, after = write(tmp_path / "before"), write(tmp_path / "after", EDITS[name])
    config = tmp_path / "two.scm"
    config.write_text(TWO_MACHINES.format(before=before, after=after))
    answer = evaluator.ask(request(config))
    assert "deployment" in answer, answer
    images = [machine["image"]["derivation"] for machine in answer["deployment"]["machines"]]
    assert images == [of_guix(None), of_guix(name)]
    assert len(set(images)) == len(images)


@pytest.fixture(scope="module")
def of_guests() -> dict[str, str]:
    """Return the texts of Guix's modules for guests, by their file names."""
    names = [f"gnu/build/{name}.scm" for name in OF_GUESTS]
    program = (
        "(use-modules (ice-9 textual-ports)) (display (string-join (map (lambda (name) "
        "(call-with-input-file (search-path %load-path name) get-string-all)) "
        f"'({' '.join(map(json.dumps, names))})) (string #\\nul)))"
    )
    done = subprocess.run(
        ["guix", "repl", "/dev/stdin"],
        input=program, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return dict(zip(names, done.stdout.split("\0"), strict=True))


@pytest.mark.parametrize("way", ["the file", "-L", "GUILE_LOAD_PATH"])
def test_modules_for_guests_are_those_of_the_load_path(
    evaluator: Evaluator, of_guests: dict[str, str], tmp_path: Path, way: str
) -> None:
    config = write(tmp_path)
    asked = request(config)
    before = only_image(evaluator.ask(asked))["derivation"]
    edited = tmp_path / ("modules" if way == "the file" else "elsewhere")
    for name, text in of_guests.items():
        (edited / name).parent.mkdir(parents=True, exist_ok=True)
        (edited / name).write_text(f"{text}\n;;; Edited.\n")
    variables = {
        "the file": {},
        "-L": {"GUIX_BUILD_OPTIONS": f"--no-grafts --load-path={edited}"},
        "GUILE_LOAD_PATH": {"GUILE_LOAD_PATH": str(edited)},
    }[way]
    asked["environment"] = {**ENVIRONMENT, **variables}
    answer = evaluator.ask(asked)
    if way == "GUILE_LOAD_PATH":
        # That comes after Guix's own.
        assert only_image(answer)["derivation"] == before
    else:
        assert answer == {"unfit": "shadowed"}
        answer = evaluate_once(asked)
        assert only_image(answer)["derivation"] != before
    assert only_image(answer)["derivation"] == expected(config, "mbr-hybrid-raw", variables)

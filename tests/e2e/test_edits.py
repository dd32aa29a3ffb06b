# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is edited is seen: by an evaluator that has seen what it was before, as by guix.

Run in the test bed: ``tests/testbed/enter .venv/bin/pytest tests/e2e/test_edits.py``.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from evaluating import ENVIRONMENT, Evaluator, expected, only_image, request, system

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


@pytest.fixture(scope="module")
def evaluator(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Evaluator]:
    running = Evaluator(tmp_path_factory.mktemp("evaluator") / "socket")
    yield running
    running.stop()


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Write a configuration that takes what it declares from all kinds of places."""
    for name, text in (
        ("modules/library.scm", LIBRARY),
        ("note.txt", "noted"),
        ("notes/deep/one", "one"),
    ):
        file = tmp_path / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    config = tmp_path / "config.scm"
    modules = tmp_path / "modules"
    config.write_text(
        f'(add-to-load-path "{modules}")\n(use-modules (guix gexp) (library))\n'
        + system("web", services=SERVICES)
    )
    return config


@pytest.mark.parametrize("name", EDITS)
def test_an_edit_is_seen(evaluator: Evaluator, config: Path, name: str) -> None:
    edit = EDITS[name]

    def derivations(variables: dict[str, str]) -> set[str]:
        # The second answer comes from caches that the first request had filled.
        asked = request(config, environment={**ENVIRONMENT, **variables})
        return {only_image(evaluator.ask(asked))["derivation"] for _ in range(2)}

    before = derivations({})
    if edit.before:
        file = config.parent / edit.file
        assert edit.before in file.read_text()
        file.write_text(file.read_text().replace(edit.before, edit.after))
    after = derivations(edit.variables)
    assert after == {expected(config, "mbr-hybrid-raw", edit.variables)}
    assert before.isdisjoint(after)

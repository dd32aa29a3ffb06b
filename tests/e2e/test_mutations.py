# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is mistyped, the answer has a place: configurations, each with something wrong.

PYGUIXVM_MUTATIONS says how many are tried, PYGUIXVM_SEED which ones.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from running import pyguixvm

from pyguixvm.errors import EvaluationError
from pyguixvm.guix.command import find_guix
from pyguixvm.guix.evaluator import evaluate
from pyguixvm.guix.request import Exchange

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|;[^\n]*|[()']|[^\s()'";]+|\s+""")
NUMBER = int(os.environ.get("PYGUIXVM_MUTATIONS", "300"))
SEED = int(os.environ.get("PYGUIXVM_SEED", "20"))

# As those are written who have many machines: procedures, local files, shared parts.
FLEET = """
(use-modules (gnu) (gnu packages ssh) (srfi srfi-1))
(use-service-modules networking ssh)

(define %domain "example.org")

(define (os name . extra)
  (operating-system
    (host-name name)
    (timezone "Europe/Berlin")
    (bootloader (bootloader-configuration
                  (bootloader grub-bootloader)
                  (targets '("/dev/vda"))))
    (file-systems (cons (file-system
                          (mount-point "/")
                          (device (file-system-label "Guix_image"))
                          (type "ext4"))
                        %base-file-systems))
    (users (cons (user-account
                   (name "alice")
                   (group "users")
                   (supplementary-groups '("wheel")))
                 %base-user-accounts))
    (packages (append (map specification->package '("openssh" "nss-certs"))
                      %base-packages))
    (services
     (append extra
             (list (service dhcpcd-service-type)
                   (service openssh-service-type
                            (openssh-configuration
                              (port-number 22)
                              (authorized-keys
                               `(("alice" ,(plain-file "alice.pub" "ssh-ed25519 AAAA")))))))
             (modify-services %base-services
               (guix-service-type
                config => (guix-configuration
                            (inherit config)
                            (discover? #t))))))))

(define* (vm name #:key (cpu 1) (memory "1G") (directories '()))
  (virtual-machine
    (name name)
    (operating-system (os name (extra-special-file "/etc/domain"
                                                   (plain-file "domain" %domain))))
    (libvirt-domain
      (cpu cpu)
      (maximum-cpu (* 2 cpu))
      (memory memory)
      (storage 12G)
      (mount-points (map (lambda (directory)
                           (mount-point (source directory) (target directory)))
                         directories))
      (disks (list (data-disk (name "data") (size 1G) (target "/srv")))))
    (ready (tcp-port 22))))

(deployment
  (name "fleet")
  (machines (cons (vm "db" #:cpu 2 #:memory "2G" #:directories '("/opt"))
                  (map (lambda (n) (vm (format #f "web-~a" n)))
                       (iota 2)))))
"""
WRONG = ["42", '"text"', "#f", "'()", "'symbol", "(list 1 2)", "unheard-of", "1.5", "64Q", "#:key"]


def mutated(text: str, chance: random.Random) -> str:
    """Return TEXT with one token, or one line, that is not what it should be."""
    tokens = TOKEN.findall(text)
    places = [i for i, token in enumerate(tokens) if token.strip() and token[0] != ";"]
    at, other = chance.sample(places, 2)
    match chance.choice(["delete", "double", "rename", "swap", "replace", "parenthesis", "line"]):
        case "delete":
            tokens[at] = ""
        case "double":
            tokens[at] = f"{tokens[at]} {tokens[at]}"
        case "rename":
            tokens[at] = f"{tokens[at]}x"
        case "swap":
            tokens[at], tokens[other] = tokens[other], tokens[at]
        case "replace":
            tokens[at] = chance.choice(WRONG)
        case "parenthesis":
            tokens[at] += chance.choice("()")
        case _:
            lines = text.splitlines(keepends=True)
            del lines[chance.randrange(len(lines))]
            return "".join(lines)
    return "".join(tokens)


def test_what_is_mistyped_is_refused_with_its_place(tmp_path: Path) -> None:
    exchange = Exchange(find_guix(os.environ), [], os.environ)
    chance = random.Random(SEED)
    texts = [FLEET, *(file.read_text() for file in sorted(EXAMPLES.glob("*.scm")))]
    file = tmp_path / "config.scm"
    placeless: list[str] = []
    refused = 0
    for _ in range(NUMBER):
        text = mutated(chance.choice(texts), chance)
        file.write_text(text)
        try:
            evaluate(exchange, file, want="systems", forward=lambda _data: None)
        except EvaluationError as error:
            refused += 1
            placeless += [
                f"{each.location}: {each.message}\n{text}"
                for each in (error, *error.others)
                if not re.fullmatch(rf"{re.escape(str(file))}:\d+:\d+", each.location or "")
            ]
    assert refused > NUMBER // 2
    assert len(placeless) <= NUMBER // 100, "\n\n".join(placeless)


def test_what_is_mistyped_ends_with_the_right_status(tmp_path: Path) -> None:
    chance = random.Random(SEED)
    file = tmp_path / "config.scm"
    for _ in range(10):
        file.write_text(mutated(FLEET, chance))
        done = pyguixvm("check", file)
        assert done.status in {0, 3}, done.err
        assert "Traceback" not in done.err

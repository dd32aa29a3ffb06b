# SPDX-License-Identifier: GPL-3.0-or-later
"""Whatever is mistyped, the answer has a place: the examples, each with one token wrong.

PYGUIXVM_MUTATIONS says how many are tried.
"""

from __future__ import annotations

import os
import random
import re
from pathlib import Path

from pyguixvm.errors import EvaluationError
from pyguixvm.guix.command import find_guix
from pyguixvm.guix.evaluator import evaluate
from pyguixvm.guix.request import Exchange

EXAMPLES = Path(__file__).parents[2] / "examples"
TOKEN = re.compile(r""""(?:[^"\\]|\\.)*"|;[^\n]*|[()']|[^\s()'";]+|\s+""")
NUMBER = int(os.environ.get("PYGUIXVM_MUTATIONS", "60"))


def mutated(text: str, chance: random.Random) -> str:
    """Return TEXT with one token left out, doubled, misspelt, or swapped with another."""
    tokens = TOKEN.findall(text)
    places = [i for i, token in enumerate(tokens) if token.strip() and token[0] != ";"]
    at, other = chance.sample(places, 2)
    match chance.choice(["delete", "double", "rename", "swap"]):
        case "delete":
            tokens[at] = ""
        case "double":
            tokens[at] = f"{tokens[at]} {tokens[at]}"
        case "rename":
            tokens[at] = f"{tokens[at]}x"
        case _:
            tokens[at], tokens[other] = tokens[other], tokens[at]
    return "".join(tokens)


def test_a_mistyped_token_is_refused_with_its_place(tmp_path: Path) -> None:
    exchange = Exchange(find_guix(os.environ), [], os.environ)
    chance = random.Random(20)
    examples = sorted(EXAMPLES.glob("*.scm"))
    file = tmp_path / "config.scm"
    placeless: list[str] = []
    refused = 0
    for _ in range(NUMBER):
        example = chance.choice(examples)
        text = mutated(example.read_text(), chance)
        file.write_text(text)
        try:
            evaluate(exchange, file, want="systems", forward=lambda _data: None)
        except EvaluationError as error:
            refused += 1
            if not re.fullmatch(rf"{re.escape(str(file))}:\d+:\d+", error.location or ""):
                placeless.append(f"{error.location}: {error.message}\n{text}")
    assert refused > NUMBER // 2
    assert len(placeless) <= NUMBER // 100, "\n\n".join(placeless)

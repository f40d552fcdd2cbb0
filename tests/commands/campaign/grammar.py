"""Commands as templates, and their expansion by dice: ``ZADD key [NX|XX] [CH] (score member)+``.

Lower-case words that the vocabulary knows are drawn anew each time, all others stand for themselves. ``[a|b]`` may be
left out, ``(a|b)`` is one of its parts, ``+`` repeats one to three times and ``{n}`` exactly n times. ``;`` separates
commands that follow each other at once, and ``same`` is the key drawn last. ``7*`` in front is a weight. Rule: knows
no command.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from random import Random

Words = list[bytes]
Word = Callable[[Random], str | bytes]
Vocabulary = Mapping[str, Word]
KEY_WORDS = ("key", "other", "newkey", "zkey")
# A plus sign that stands by itself is a word.
_TOKEN = re.compile(r"\{\d+\}|[\[\]()|;]|[^\s\[\]()|;{]+")
_PLUS = re.compile(r"(?<=[\w)\]])\+")


class Draw:
    """One expansion under way: the dice, and the key drawn last."""

    def __init__(self, dice: Random) -> None:
        self.dice = dice
        self.key = b""


class Literal:
    """A word that stands for itself."""

    def __init__(self, text: str) -> None:
        self.text = text.encode()

    def expand(self, draw: Draw, out: Words) -> None:
        out.append(self.text)


class Drawn:
    """A word of the vocabulary."""

    def __init__(self, name: str, make: Word) -> None:
        self.make = make
        self.is_key = name in KEY_WORDS

    def expand(self, draw: Draw, out: Words) -> None:
        word = self.make(draw.dice)
        raw = word.encode() if isinstance(word, str) else word
        if self.is_key:
            draw.key = raw
        out.append(raw)


class Same:
    """The key drawn last."""

    def expand(self, draw: Draw, out: Words) -> None:
        out.append(draw.key)


class Choice:
    """One of several sequences, perhaps none, perhaps repeated."""

    def __init__(self, parts: list[Sequence_], *, optional: bool) -> None:
        self.parts = parts
        self.optional = optional
        self.exactly = 0
        self.repeated = False

    def expand(self, draw: Draw, out: Words) -> None:
        dice = draw.dice
        if self.optional and dice.random() < 0.65:
            return
        for _ in range(dice.choice((1, 1, 2, 3)) if self.repeated else self.exactly or 1):
            for item in dice.choice(self.parts):
                item.expand(draw, out)


Item = Literal | Drawn | Same | Choice
Sequence_ = list[Item]


class Template:
    """Commands that are made together, with the weight they are chosen by."""

    def __init__(self, text: str, vocabulary: Vocabulary) -> None:
        weight, star, rest = text.partition("* ")
        self.weight = int(weight) if star and weight.isdigit() else 1
        self.text = rest if star and weight.isdigit() else text
        self.tokens: list[str] = _TOKEN.findall(_PLUS.sub("{0}", self.text))
        self.vocabulary = vocabulary
        self.commands: list[Sequence_] = [[]]
        while self.tokens:
            found = self._sequence(self.commands[-1])
            if found == ";":
                self.commands.append([])
            elif found:
                raise ValueError(f"{self.text}: unexpected {found}")

    def _sequence(self, out: Sequence_) -> str:
        """Read items up to a token that is none, which is returned; empty at the end."""
        while self.tokens:
            token = self.tokens.pop(0)
            if token in ("|", "]", ")", ";"):
                return token
            if token in ("[", "("):
                out.append(self._choice("]" if token == "[" else ")"))
            elif token[0] == "{":
                last = out[-1]
                if not isinstance(last, Choice):
                    last = Choice([[last]], optional=False)
                    out[-1] = last
                last.exactly = int(token[1:-1])
                last.repeated = not last.exactly
            elif token == "same":
                out.append(Same())
            elif token in self.vocabulary:
                out.append(Drawn(token, self.vocabulary[token]))
            else:
                out.append(Literal(token))
        return ""

    def _choice(self, end: str) -> Choice:
        parts: list[Sequence_] = [[]]
        while True:
            found = self._sequence(parts[-1])
            if found == end:
                return Choice(parts, optional=end == "]")
            if found != "|":
                raise ValueError(f"{self.text}: no {end}")
            parts.append([])

    def make(self, dice: Random) -> list[Words]:
        """One drawing of the template's commands."""
        draw = Draw(dice)
        made = []
        for sequence in self.commands:
            words: Words = []
            for item in sequence:
                item.expand(draw, words)
            made.append(words)
        return made


def templates(text: str, vocabulary: Vocabulary) -> list[Template]:
    """One template for each line that is not empty."""
    return [Template(line.strip(), vocabulary) for line in text.strip().splitlines() if line.strip()]

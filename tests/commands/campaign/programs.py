"""Programs: what one seed makes of one type's templates.

Rule: a program is a list of steps, each a connection's number and a command; it depends on type, seed and length only.
"""

from __future__ import annotations

from random import Random

from tests.commands.campaign import lua_texts
from tests.commands.campaign.grammar import Template, Word, Words, templates
from tests.commands.campaign.mutation import mutated, recased, safe
from tests.commands.campaign.types_collections import HASHES, LISTS, SETS, STRINGS, ZSETS
from tests.commands.campaign.types_other import (
    BITMAPS,
    CHANNELS,
    GEO,
    HYPERLOGLOG,
    KEYS,
    STREAMS,
    TRANSACTIONS,
)
from tests.commands.campaign.vocabulary import SCORES, between, modest, mostly, one, value, words_of

Step = tuple[int, Words]

_TEXTS = {
    "strings": STRINGS, "hashes": HASHES, "lists": LISTS, "sets": SETS, "zsets": ZSETS, "streams": STREAMS,
    "bitmaps": BITMAPS, "hyperloglog": HYPERLOGLOG, "geo": GEO, "keys": KEYS, "transactions": TRANSACTIONS,
    "scripting": lua_texts.SCRIPTING, "pubsub": CHANNELS,
}  # fmt: skip
TYPES = tuple(_TEXTS)
# Types whose commands transactions and scripts are made of.
_INNER = ("strings", "hashes", "lists", "sets", "zsets", "streams", "bitmaps", "hyperloglog", "geo", "keys")
_UNORDERED = tuple(
    b"HGETALL HKEYS HVALS SMEMBERS SINTER SUNION SDIFF SORT KEYS SPOP SRANDMEMBER HRANDFIELD ZRANDMEMBER RANDOMKEY "
    b"SCAN SSCAN HSCAN ZSCAN TTL PTTL XINFO GEORADIUS GEOSEARCH OBJECT".split()
)
# What changes the connection, or what a value is like beside its content, and what scripts may not call here.
_NOT_INNER = frozenset(b"MULTI EXEC SELECT SWAPDB MOVE SORT SORT_RO DUMP MEMORY COMMAND PFCOUNT".split())
# Where a command may stand by itself in these, its connection's state is part of what is compared.
_MUTATION = {"transactions": 0.05, "scripting": 0.08, "pubsub": 0.03}


def vocabulary(kind: str) -> dict[str, Word]:
    """The words of a type: its keys share names with no other type's, but for one of a wrong type."""
    words = words_of("k", "l" if kind == "strings" else "s")
    words |= {
        "any": one("any"), "ordered": one("ordered"), "lexkey": one("x1", "x1", "x2"), "zkey": one("z1", "z2"),
        "zother": one("z1", "z2"),
        "newid": lambda d: f"{d.randint(0, 40)}-{d.choice(('*', '*', '1', '2'))}",
        "group": mostly(one("g1", "g1", "g2"), one("none", "")), "consumer": one("c1", "c2", "c3"),
        "type": mostly(one("u8", "i8", "u1", "i5", "u16", "i16", "u31", "i32", "u63", "i64"),
                       one("u64", "i65", "x", "u0", "i0", "")),
        "fieldoffset": mostly(one("0", "1", "7", "8", "#0", "#1", "#3", "100", "33"), one("-1", "x", "#-1", "", "#")),
        "wide": between(0, 100_000), "place": mostly(one("p1", "p2", "p3", "p4", "Palermo", ""), one("none")),
        "badpayload": lambda d: d.randbytes(d.randint(0, 20)), "channel": one("c1", "c2", "ch", ""),
        "cpattern": one("c*", "c1", "*", "c[12]", "x?"), "script": one(*lua_texts.SCRIPTS),
        "expression": lua_texts.expression, "call": one(*lua_texts.CALLS), "orderedcall": one(*lua_texts.ORDERED_CALLS),
        "fixed": one(lua_texts.FIXED), "fixedsha": one(lua_texts.FIXED_SHA, lua_texts.FIXED_SHA.upper()),
        "library": one(*lua_texts.LIBRARIES), "value": value,
    }  # fmt: skip
    if kind == "streams":
        words["length"] = lambda d: "v" * int(d.choice(("1", "60", "300", "1500")))
    if kind in ("lists", "streams"):
        words["length"] = lambda d: "v" * int(d.choice(("1", "44", "64", "255", "256", "1000", "3000")))
    if kind in ("keys", "lists", "sets"):
        # These have SORT, see modest().
        words["value"] = modest
        words["score"] = mostly(one(*SCORES), one("inf", "-inf", "nan", "x", "", "(1"))
        words["cursor"] = mostly(one("0"), one("x", "-1", "", " 0", "+0"), 0.08)
    if kind == "geo":
        words["member"] = words["place"]
    return words


class Maker:
    """Makes the programs of one type, of commands that the peer knows."""

    def __init__(self, kind: str, known: frozenset[bytes]) -> None:
        self.kind = kind
        self.known = known
        self.choices = self._choices(kind)
        inner = _INNER if kind in ("transactions", "scripting") else ()
        self.inner = [self._choices(name) for name in inner]

    def _choices(self, kind: str) -> tuple[list[Template], list[int]]:
        found = templates(_TEXTS[kind], vocabulary(kind))
        return found, [template.weight for template in found]

    def program(self, seed: int, length: int) -> list[Step]:
        """At least ``length`` steps, the setup included."""
        dice = Random(f"{self.kind} {seed}")
        odd = _MUTATION.get(self.kind, 0.12)
        wrong: list[Words] = [[b"RPUSH", b"l", b"a", b"b"], [b"SET", b"s", b"v"]]
        steps: list[Step] = [(0, words) for words in wrong]
        while len(steps) < length:
            template = dice.choices(*self.choices)[0]
            # What waits or depends on its neighbours stays as it is made.
            whole = len(template.commands) > 1 or any(
                word in template.text for word in ("tiny", "BLOCK", "any", "ordered", "lexkey")
            )
            for words in template.make(dice):
                steps += self._steps(words, dice, 0.0 if whole else odd)
        return steps

    def _steps(self, words: Words, dice: Random, odd: float) -> list[Step]:
        connection = 0
        if words[0] == b"@":
            connection, words = 1, words[1:]
        if words[0] == b"any":
            return [(connection, self._inner(dice, odd or 0.1)) for _ in words]
        if words[-1] in (b"any", b"ordered") and self.inner:
            words = [*words[:-1], *self._inner(dice, 0.1, ordered=words[-1] == b"ordered")]
        if dice.random() < 0.04:
            words = recased(words, dice)
        if dice.random() < odd:
            changed = mutated(words, dice)
            words = changed if safe(changed) else words
        return [(connection, words)] if words[0].upper() in self.known else []

    def _inner(self, dice: Random, odd: float, *, ordered: bool = False) -> Words:
        """One command of some data type that neither waits nor changes the connection."""
        while True:
            made = dice.choices(*dice.choice(self.inner or [self.choices]))[0].make(dice)
            words = dice.choice(made)
            if dice.random() < odd:
                words = mutated(words, dice)
            name = words[0].upper()
            unfit = name not in self.known or name in _NOT_INNER or b"BLOCK" in words or not safe(words)
            if unfit or (name == b"SPOP" and len(words) < 3) or (ordered and name.startswith(_UNORDERED)):
                continue
            return words

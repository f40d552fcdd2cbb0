"""When two replies are alike, and what of a difference is known.

Rule: the only place that forgives. Each allowance is a row of tests/data/reply_differences.csv: a command, the rule
applied to its reply on both sides, and the reason; a rule is a function of this module.
"""

from __future__ import annotations

import csv
import itertools
import re
from collections.abc import Callable
from pathlib import Path

from tests.commands.campaign import lua_texts
from tests.commands.campaign.grammar import Words
from tests.commands.campaign.vocabulary import FAR_MS, FAR_S
from tests.commands.campaign.wire import Tree

LISTED = Path(__file__).parents[2] / "data" / "reply_differences.csv"
_OWN_SCRIPTS = frozenset(text.encode() for text in lua_texts.SCRIPTS)
_NEAR_S = 60
_DOUBLE = re.compile(rb"-?\d+\.?\d*(e[+-]?\d+)?")
_EVALS = (b"EVAL", b"EVAL_RO", b"FCALL", b"FCALL_RO")
Rule = Callable[[Words, Tree], Tree]


def unordered(words: Words, tree: Tree) -> Tree:
    """Elements of an aggregate in an order of their own, at every depth; pairs of a map stay together."""
    kind, value = tree
    if not isinstance(value, list):
        return tree
    items = [unordered(words, item) for item in value]
    if kind == "%":
        return kind, sorted(zip(items[::2], items[1::2], strict=True), key=repr)
    return kind, sorted(items, key=repr)


def pairs_unordered(words: Words, tree: Tree) -> Tree:
    """A flat array of pairs, each kept together."""
    kind, value = tree
    if kind == "*" and all(isinstance(item[1], list) for item in value):
        return kind, sorted(value, key=repr)
    if kind != "*" or len(value) % 2:
        return unordered(words, tree)
    return "*", sorted(zip(value[::2], value[1::2], strict=True), key=repr)


def shape(words: Words, tree: Tree) -> Tree:
    """Types and sizes only: which elements come is chance."""
    kind, value = tree
    return kind, [shape(words, item) for item in value] if isinstance(value, list) else "any"


def random_elements(words: Words, tree: Tree) -> Tree:
    """All elements where all are asked for, their number otherwise."""
    if len(words) > 2 and words[2] in (b"10000", b"1000", b"100000", b"9223372036854775807"):
        return unordered(words, tree) if b"WITHVALUES" not in words[3:] else pairs_unordered(words, tree)
    return shape(words, tree) if tree[0] != "-" else tree


def scanned(words: Words, tree: Tree) -> Tree:
    """One part of a walk over many elements goes as far as the table's layout says; a whole one has no order."""
    kind, value = tree
    if kind != "*":
        return tree
    cursor = words[1 if words[0].upper() == b"SCAN" else 2]
    plain = cursor == b"0" and value[0] == ("$", b"0") and b"COUNT" in _upper(words)
    everything = plain and any(word in words for word in (b"10000", b"100000"))
    paired = words[0].upper() == b"ZSCAN" or (words[0].upper() == b"HSCAN" and b"NOVALUES" not in _upper(words))
    return ("*", (pairs_unordered if paired else unordered)(words, value[1])) if everything else ("*", "part")


def moment(words: Words, tree: Tree) -> Tree:
    """What is left of a time to live, and deadlines that were given as a span, to about a minute."""
    kind, value = tree
    if kind == "*":
        return kind, [moment(words, item) for item in value]
    name = words[0].upper()
    if kind != ":" or int(value) < 1_000_000:
        return tree
    is_ms = name.startswith((b"P", b"HP"))
    if b"EXPIRETIME" in name and int(value) >= (FAR_MS if is_ms else FAR_S):
        return tree
    return kind, round(int(value) / (_NEAR_S * (1000 if is_ms else 1)) / 10)


def bulk_doubles(words: Words, tree: Tree) -> Tree:
    """Doubles as if they were bulk strings."""
    kind, value = tree
    if isinstance(value, list):
        return kind, [bulk_doubles(words, item) for item in value]
    return ("$" if kind == "," else kind), value


def uncounted(words: Words, tree: Tree) -> Tree:
    """A HyperLogLog without the count that PFCOUNT leaves in it upstream."""
    kind, value = tree
    if isinstance(value, list):
        return kind, [uncounted(words, item) for item in value]
    return (kind, value[:8] + value[16:]) if isinstance(value, bytes) and value.startswith(b"HYLL") else tree


def timeless(words: Words, tree: Tree) -> Tree:
    """Without moments and idle times."""
    kind, value = tree
    if isinstance(value, list):
        out = [timeless(words, item) for item in value]
        for at in range(len(out) - 1):
            if out[at] in (("$", b"idle"), ("$", b"inactive")) and out[at + 1][0] == ":":
                out[at + 1] = (":", b"some" if int(out[at + 1][1]) >= 0 else b"none")
        return kind, out
    if kind == ":" and 1_600_000_000_000 < int(value) < 99_000_000_000_000:
        return kind, b"moment"
    return tree


def idle_since(words: Words, tree: Tree) -> Tree:
    """Pending entries without how long ago each was delivered, but for whether that is hours."""
    kind, value = tree
    if kind != "*" or len(words) < 4:
        return tree
    entries = []
    for entry in value:
        part = list(entry[1])
        part[2] = int(part[2][1]) > 3_600_000
        entries.append(part)
    return kind, entries


def ties(words: Words, tree: Tree) -> Tree:
    """SORT's equal weights in any order; ALPHA collates up to a NUL upstream, unless it stores."""
    kind, value = tree
    options = _upper(words[2:])
    if b"BY" in options:
        return unordered(words, tree)
    if b"ALPHA" in options and b"STORE" not in options and isinstance(value, list):
        return kind, [(item[0], item[1].partition(b"\0")[0]) for item in value]
    return tree


def short_string(words: Words, tree: Tree) -> Tree:
    """Whether a short string that looks like an integer is stored as one."""
    return ("$", b"embstr") if tree == ("$", b"int") else tree


def list_encoding(words: Words, tree: Tree) -> Tree:
    """Whether a list that shrank is one listpack again."""
    return ("$", b"listpack") if tree == ("$", b"quicklist") else tree


def string_encoding(words: Words, tree: Tree) -> Tree:
    """Whether a string was ever about to be changed in place."""
    return ("$", b"string") if tree in (("$", b"int"), ("$", b"embstr"), ("$", b"raw")) else tree


def same_double(words: Words, tree: Tree) -> Tree:
    """Doubles of sixteen digits and more as the number that their text reads as; minus zero as zero."""
    kind, value = tree
    if isinstance(value, list):
        return kind, [same_double(words, item) for item in value]
    if kind in "$," and value == b"-0":
        return kind, b"0"
    if kind in "$," and (len(value) > 15 or b"e+" in value) and _DOUBLE.fullmatch(value):
        return kind, repr(float(value))
    return tree


def not_subscribed(words: Words, tree: Tree) -> Tree:
    """Leaving channels without being in any: an error, or a reply for each."""
    _, group = tree
    left = [item for item in group if _leaves(item)]
    errors = [item for item in group if item[0] == "-" and item[1].startswith(b"NOSUB")]
    if group and (errors == group or (left == group and all(item[1][2] == (":", b"0") for item in left))):
        return "any", ""
    return tree


def channels_unordered(words: Words, tree: Tree) -> Tree:
    """Lists of channels, those left all at once, and patterns that one message matches come in any order."""
    kind, group = tree
    if not isinstance(group, list):
        return tree
    out = [unordered(words, item) if _is_list(item) else item for item in group if not _leaves(item)]
    left = [item[1] for item in group if _leaves(item)]
    out += [("left", sorted(repr(item[:2]) for item in left)), ("counts", [item[2] for item in left])]
    return kind, [(name, _by_message(value) if name == "messages" else value) for name, value in out]


def _is_list(item: Tree) -> bool:
    return item[0] == "*" and all(part[0] == "$" for part in item[1])


def _leaves(item: Tree) -> bool:
    value = item[1]
    return isinstance(value, list) and len(value) == 3 and str(value[0][1]).endswith("unsubscribe'")


def _by_message(messages: list[Tree]) -> list[Tree]:
    """Copies of one message, which follow each other, sorted."""
    return [
        item
        for _, copies in itertools.groupby(messages, key=lambda message: message[1][-2:])
        for item in sorted(copies, key=repr)
    ]


def ignored(words: Words, tree: Tree) -> Tree:
    """Nothing of the reply."""
    return "any", ""


RULES: dict[str, Rule] = {
    rule.__name__: rule
    for rule in (
        unordered,
        pairs_unordered,
        shape,
        random_elements,
        scanned,
        moment,
        bulk_doubles,
        uncounted,
        timeless,
        idle_since,
        ties,
        short_string,
        string_encoding,
        list_encoding,
        same_double,
        not_subscribed,
        channels_unordered,
        ignored,
    )
}


def _upper(words: Words) -> list[bytes]:
    return [word.upper() for word in words]


def _called(words: Words) -> Words:
    """The command that a script was given to call, as lua_texts.CALLS do; empty for none."""
    if words[0].upper() in _EVALS and len(words) > 3 and words[2] in (b"0", b"1") and words[1] not in _OWN_SCRIPTS:
        return words[3 + int(words[2]) :]
    return []


class Allowance:
    """One row of the list: what replies of which requests are compared by what rule, and why.

    ``command`` is a name, a name and a first argument, or a name's begin and a star; ``when`` a pattern that the words
    of the request must match; ``peer`` a program's name; ``types`` are those whose programs it holds in. All but the
    first may be empty for everything.
    """

    def __init__(self, row: dict[str, str]) -> None:
        self.command = row["command"].encode()
        self.when = re.compile(row["when"].encode(), re.IGNORECASE | re.DOTALL) if row["when"] else None
        self.peer = row["peer"]
        self.rule = RULES[row["rule"]]
        self.types = row["types"].split()
        self.reason = row["reason"]

    def covers(self, words: Words) -> bool:
        return self.when is None or self.when.search(b" ".join(words)) is not None


class Judge:
    """Compares replies as the list allows for one peer and one type's programs."""

    def __init__(self, peer: str, kind: str) -> None:
        with LISTED.open(newline="") as lines:
            found = [Allowance(row) for row in csv.DictReader(lines)]
        found = [row for row in found if row.peer in ("", peer) and (not row.types or kind in row.types)]
        self.rows: dict[bytes, list[Allowance]] = {}
        for row in found:
            self.rows.setdefault(row.command, []).append(row)
        self.begins = [(name.removesuffix(b"*"), rows) for name, rows in self.rows.items() if name.endswith(b"*")]
        self.used = 0

    def comparable(self, words: Words, tree: Tree) -> Tree:
        """What of a reply both servers must share."""
        kind, value = tree
        if kind == "-":
            # A text ends at its last word; stray blanks before the line end are upstream's.
            tree = kind, value.rstrip()
        name = words[0].upper()
        inner = _called(words)
        if inner:
            if words[1].startswith(b"return {redis.pcall(") and isinstance(value, list):
                return kind, [self.comparable(inner, value[0]), *value[1:]]
            return self.comparable(inner, tree)
        # The widest first, while the reply still has the shape it came in.
        found = [row for begin, rows in self.begins if name.startswith(begin) for row in rows]
        found += self.rows.get(name, [])
        if len(words) > 1:
            found += self.rows.get(name + b" " + words[1].upper(), [])
        for row in found:
            if row.covers(words):
                tree = row.rule(words, tree)
        return tree

    def transaction(self, queued: list[Words], tree: Tree) -> Tree:
        """EXEC's replies, each as its command's."""
        kind, value = tree
        if kind != "*" or len(value) != len(queued):
            return tree
        return kind, [self.comparable(words, item) for words, item in zip(queued, value, strict=True)]

    def alike(self, words: Words, queued: list[Words], mine: Tree, other: Tree) -> bool:
        """Whether the replies to one request are. ``queued``: the transaction that it ends."""
        if mine == other:
            return True
        if words[0].upper() == b"EXEC":
            same = bool(self.transaction(queued, mine) == self.transaction(queued, other))
        else:
            same = bool(self.comparable(words, mine) == self.comparable(words, other))
        self.used += same
        return same

    def channels_alike(self, mine: list[Tree], other: list[Tree]) -> bool:
        """Whether two servers' replies to one request on channels are; each may have any number."""
        groups: list[Tree] = [("*", mine), ("*", other)]
        if mine != other:
            self.used += 1
            for row in self.rows.get(b"UNSUBSCRIBE", []):
                groups = [row.rule([], group) for group in groups]
        return bool(groups[0] == groups[1])

"""Unions, intersections and differences of sorted sets and sets, replied or stored. [compiled]

Rule: a set counts as a sorted set whose scores are all 1. Inputs are combined smallest first, as upstream, because
sums of infinities and of doubles depend on the order.
"""

from __future__ import annotations

import math
from typing import Final

from durakv.commands.args import parse_double, parse_int64
from durakv.commands.collection import parse_positive, store_result
from durakv.commands.context import NOTIFY_ZSET, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet
from durakv.resp.errors import LIMIT_NEGATIVE, SYNTAX, WEIGHT_NOT_FLOAT, WRONGTYPE, CommandError
from durakv.resp.types import Pairs, Reply

COMMANDS: Final = Commands("sorted_set")

_KEYS: Final = "RO|ACCESS@i1+n0/1/1"
_STORE_KEYS: Final = "OW|UPDATE@i1+r0/1/0 RO|ACCESS@i2+n0/1/1"
_UNION_COST: Final = "O(N+M*log(M)), N the size of all inputs and M of the result"
_INTER_COST: Final = "O(N*K+M*log(M)), N the size of the smallest of K inputs and M of the result"
_DIFF_COST: Final = "O(N*K+M*log(M)), N the size of the first of K inputs and M of the result"

_UNION: Final = 0
_INTER: Final = 1
_DIFF: Final = 2

_SUM: Final = 0
_MIN: Final = 1
_MAX: Final = 2
_AGGREGATES: Final[dict[bytes, int]] = {b"SUM": _SUM, b"MIN": _MIN, b"MAX": _MAX}


class _Input:
    """One input: its scores by member, and its weight. ``scores`` is empty for a missing key."""

    __slots__ = ("scores", "weight")

    def __init__(self, db: Db, key: bytes) -> None:
        """Raises CommandError WRONGTYPE."""
        value = db.get(key)
        self.weight = 1.0
        self.scores: dict[bytes, float]
        if value is None:
            self.scores = {}
        elif isinstance(value, ZSet):
            self.scores = value.scores
        elif isinstance(value, SetValue):
            self.scores = dict.fromkeys(value.members, 1.0)
        else:
            raise CommandError(WRONGTYPE)

    def __len__(self) -> int:
        return len(self.scores)


class _Request:
    """Arguments from numkeys on, read and checked in upstream's order; keys are looked up before options are read."""

    __slots__ = ("aggregate", "inputs", "limit", "op", "with_scores")

    def __init__(self, db: Db, argv: Argv, numkeys_at: int, op: int, name: str) -> None:
        """``name`` is the command's, lower case. Raises CommandError. Source: zunionInterDiffGenericCommand()."""
        self.op = op
        self.aggregate = _SUM
        self.with_scores = False
        self.limit = 0
        count = parse_int64(argv[numkeys_at])
        if count < 1:
            raise CommandError(f"ERR at least 1 input key is needed for '{name}' command")
        end = numkeys_at + 1 + count
        if end > len(argv):
            raise CommandError(SYNTAX)
        self.inputs = [_Input(db, key) for key in argv[numkeys_at + 1 : end]]
        cardinality = name == "zintercard"
        store = numkeys_at == 2
        i = end
        while i < len(argv):
            word = argv[i].upper()
            left = len(argv) - i - 1
            if word == b"WEIGHTS" and op != _DIFF and not cardinality and left >= count:
                for n in range(count):
                    self.inputs[n].weight = parse_double(argv[i + 1 + n], WEIGHT_NOT_FLOAT)
                i += count
            elif word == b"AGGREGATE" and op != _DIFF and not cardinality and left >= 1:
                aggregate = _AGGREGATES.get(argv[i + 1].upper(), -1)
                if aggregate < 0:
                    raise CommandError(SYNTAX)
                self.aggregate = aggregate
                i += 1
            elif word == b"WITHSCORES" and not store and not cardinality:
                self.with_scores = True
            elif word == b"LIMIT" and cardinality and left >= 1:
                self.limit = parse_positive(argv[i + 1], LIMIT_NEGATIVE)
                i += 1
            else:
                raise CommandError(SYNTAX)
            i += 1

    def scores(self) -> dict[bytes, float]:
        """The result, in no particular order; for ZINTERCARD at most LIMIT members."""
        if self.op == _DIFF:
            return self._diff()
        self.inputs.sort(key=len)
        return self._union() if self.op == _UNION else self._inter()

    def _diff(self) -> dict[bytes, float]:
        out: dict[bytes, float] = {}
        others = [each.scores for each in self.inputs[1:]]
        for member, score in self.inputs[0].scores.items():
            for scores in others:
                if member in scores:
                    break
            else:
                out[member] = score
        return out

    def _union(self) -> dict[bytes, float]:
        out: dict[bytes, float] = {}
        for each in self.inputs:
            weight = each.weight
            for member, score in each.scores.items():
                score = _number(weight * score)
                old = out.get(member)
                out[member] = score if old is None else self._combined(old, score)
        return out

    def _inter(self) -> dict[bytes, float]:
        out: dict[bytes, float] = {}
        first = self.inputs[0]
        others = self.inputs[1:]
        for member, score in first.scores.items():
            total = _number(first.weight * score)
            for each in others:
                value = each.scores.get(member)
                if value is None:
                    break
                total = self._combined(total, value * each.weight)
            else:
                out[member] = total
                if len(out) == self.limit:
                    break
        return out

    def _combined(self, total: float, score: float) -> float:
        if self.aggregate == _SUM:
            return _number(total + score)
        if self.aggregate == _MIN:
            return score if score < total else total
        return score if score > total else total


def _number(score: float) -> float:
    """Infinity minus infinity, and zero times infinity, count as 0. Source: t_zset.c zunionInterAggregate()."""
    return 0.0 if math.isnan(score) else score


def _read(ctx: ReadContext, argv: Argv, op: int, name: str) -> Reply:
    request = _Request(ctx.db, argv, 1, op, name)
    pairs = [(score, member) for member, score in request.scores().items()]
    pairs.sort()
    if not request.with_scores:
        return [member for _, member in pairs]
    flat: list[Reply] = []
    for score, member in pairs:
        flat.append(member)
        flat.append(score)
    return Pairs(flat)


def _store(ctx: WriteContext, argv: Argv, op: int, name: str) -> Reply:
    value = ZSet()
    scores = _Request(ctx.db, argv, 2, op, name).scores()
    value.fill(scores)
    return store_result(ctx, argv[1], value, len(scores), NOTIFY_ZSET, name.encode())


@COMMANDS.read("ZUNION", arity=-3, since="6.2.0", keys=_KEYS, complexity=_UNION_COST,
               summary="Returns the members that any of the sorted sets has.")  # fmt: skip
def zunion(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array by score, with WITHSCORES pairs. Source: t_zset.c zunionCommand()."""
    return _read(ctx, argv, _UNION, "zunion")


@COMMANDS.read("ZINTER", arity=-3, since="6.2.0", keys=_KEYS, complexity=_INTER_COST,
               summary="Returns the members that all sorted sets have.")  # fmt: skip
def zinter(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array by score, with WITHSCORES pairs. Source: t_zset.c zinterCommand()."""
    return _read(ctx, argv, _INTER, "zinter")


@COMMANDS.read("ZDIFF", arity=-3, since="6.2.0", keys=_KEYS, complexity=_DIFF_COST,
               summary="Returns the members of the first sorted set that no other has.")  # fmt: skip
def zdiff(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array by score, with WITHSCORES pairs. Source: t_zset.c zdiffCommand()."""
    return _read(ctx, argv, _DIFF, "zdiff")


@COMMANDS.read("ZINTERCARD", arity=-3, since="7.0.0", keys=_KEYS, complexity=_INTER_COST,
               summary="Returns the number of members that all sorted sets have.")  # fmt: skip
def zintercard(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer, at most LIMIT. Source: t_zset.c zinterCardCommand()."""
    return len(_Request(ctx.db, argv, 1, _INTER, "zintercard").scores())


@COMMANDS.write("ZUNIONSTORE", arity=-4, since="2.0.0", flags="denyoom", keys=_STORE_KEYS, complexity=_UNION_COST,
                summary="Stores the members that any of the sorted sets has.")  # fmt: skip
def zunionstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_zset.c zunionstoreCommand()."""
    return _store(ctx, argv, _UNION, "zunionstore")


@COMMANDS.write("ZINTERSTORE", arity=-4, since="2.0.0", flags="denyoom", keys=_STORE_KEYS, complexity=_INTER_COST,
                summary="Stores the members that all sorted sets have.")  # fmt: skip
def zinterstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_zset.c zinterstoreCommand()."""
    return _store(ctx, argv, _INTER, "zinterstore")


@COMMANDS.write("ZDIFFSTORE", arity=-4, since="6.2.0", flags="denyoom", keys=_STORE_KEYS, complexity=_DIFF_COST,
                summary="Stores the members of the first sorted set that no other has.")  # fmt: skip
def zdiffstore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_zset.c zdiffstoreCommand()."""
    return _store(ctx, argv, _DIFF, "zdiffstore")

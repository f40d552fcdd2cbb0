"""Ranges of a sorted set by rank, score or member: read, stored, counted, removed. [compiled]

Rule: every range is first turned into ranks [start, stop); what is done with them comes after.
"""

from __future__ import annotations

import math
from typing import Any, Final

from durakv.commands.args import parse_int64
from durakv.commands.collection import after_removal, store_result, window
from durakv.commands.context import NOTIFY_ZSET, ReadContext, WriteContext
from durakv.commands.sorted_sets import flat_pairs
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.zset import Pair, ZSet
from durakv.resp.errors import (
    BOUND_NOT_FLOAT,
    BOUND_NOT_STRING,
    LIMIT_NEEDS_BY,
    SYNTAX,
    WITHSCORES_BYLEX,
    CommandError,
)
from durakv.resp.types import Pairs, Reply

COMMANDS: Final = Commands("sorted_set")

_KEY_ACCESS: Final = "RO|ACCESS@i1+r0/1/0"
_KEY_DELETE: Final = "RW|DELETE@i1+r0/1/0"
_COST: Final = "O(log(N)+M), N the size of the sorted set and M members returned"
_REMOVE_COST: Final = "O(M*log(N)), N the size of the sorted set and M members removed"

# ZRANGE key start stop.
_PLAIN_ARGC: Final = 4
_AUTO: Final = 0
_BY_RANK: Final = 1
_BY_SCORE: Final = 2
_BY_LEX: Final = 3

_SPACES: Final = b" \t\n\v\f\r"
_FLOAT_BYTES: Final = b"+-.0123456789eEpPxXabcdefABCDEFinINtyTY"


class ScoreBound:
    """One end of a score range; ``open``: the score itself is outside."""

    __slots__ = ("open", "score")

    def __init__(self, text: bytes) -> None:
        """Raises CommandError unless ``text`` is what strtod() reads, after an optional ``(``."""
        self.open = text[:1] == b"("
        self.score = _bound(text[1:] if self.open else text)


class LexBound:
    """One end of a range of members; ``end`` is -1 for the lowest, 1 for the highest, 0 for ``member``."""

    __slots__ = ("end", "member", "open")

    def __init__(self, text: bytes) -> None:
        """Raises CommandError unless ``text`` is ``-``, ``+``, ``(member`` or ``[member``."""
        self.end = 0
        self.open = text[:1] == b"("
        self.member = text[1:]
        if text == b"-":
            self.end = -1
        elif text == b"+":
            self.end = 1
        elif not self.open and text[:1] != b"[":
            raise CommandError(BOUND_NOT_STRING)


def _bound(text: bytes) -> float:
    """As strtod(): leading blanks are skipped, too large is infinite. Raises CommandError.

    The text ends at its first zero byte, and an empty one is 0.
    """
    text = text.partition(b"\0")[0]
    if not text:
        return 0.0
    text = text.lstrip(_SPACES)
    if text and not text.strip(_FLOAT_BYTES):
        plain = text.decode("ascii")
        hexadecimal = "x" in plain or "X" in plain
        try:
            score = float.fromhex(plain) if hexadecimal else float(plain)
        except OverflowError:
            return -math.inf if plain.startswith("-") else math.inf
        except ValueError:
            raise CommandError(BOUND_NOT_FLOAT) from None
        if not math.isnan(score):
            return score
    raise CommandError(BOUND_NOT_FLOAT)


def by_score(value: ZSet, low: ScoreBound, high: ScoreBound) -> tuple[int, int]:
    """Ranks [start, stop) of the scores between the bounds; start >= stop when there are none."""
    start = value.through(low.score) if low.open else value.below(low.score)
    stop = value.below(high.score) if high.open else value.through(high.score)
    return start, stop


def by_lex(value: ZSet, low: LexBound, high: LexBound) -> tuple[int, int]:
    """Ranks [start, stop) of the members between the bounds, given that all scores are equal."""
    return _lex_rank(value, low, low.open), _lex_rank(value, high, not high.open)


def _lex_rank(value: ZSet, bound: LexBound, after: bool) -> int:
    if bound.end:
        return 0 if bound.end < 0 else len(value)
    # The least member greater than x is x and a zero byte.
    return value.lex_below(bound.member + b"\x00" if after else bound.member)


# -- ZRANGE and its relatives --------------------------------------------------------------------------------------


class RangeRequest:
    """Arguments of the ZRANGE family from the source key on, read and checked."""

    def __init__(self, argv: Argv, key_at: int, by: int, reverse: bool, fixed: bool, store: bool) -> None:
        """``by`` _AUTO takes BYSCORE, BYLEX; ``fixed`` False takes REV. Raises CommandError.

        Source: t_zset.c zrangeGenericCommand().
        """
        self.key = argv[key_at]
        self.by = by
        self.reverse = reverse
        self.with_scores = False
        self.offset = 0
        self.limit = -1
        self._options(argv, key_at + 3, fixed, store)
        low, high = argv[key_at + 1], argv[key_at + 2]
        self.start = self.stop = 0
        self.scores: tuple[ScoreBound, ScoreBound] | None = None
        self.members: tuple[LexBound, LexBound] | None = None
        if self.by == _BY_RANK:
            self.start, self.stop = parse_int64(low), parse_int64(high)
            return
        if self.reverse:
            low, high = high, low
        if self.by == _BY_SCORE:
            self.scores = (ScoreBound(low), ScoreBound(high))
        else:
            self.members = (LexBound(low), LexBound(high))

    def _options(self, argv: Argv, start: int, fixed: bool, store: bool) -> None:
        auto = self.by == _AUTO
        i = start
        while i < len(argv):
            word = argv[i].upper()
            if word == b"WITHSCORES" and not store:
                self.with_scores = True
            elif word == b"LIMIT" and i + 2 < len(argv):
                self.offset = parse_int64(argv[i + 1])
                self.limit = parse_int64(argv[i + 2])
                i += 2
            elif word == b"REV" and not fixed and not self.reverse:
                self.reverse = True
            elif word == b"BYLEX" and auto and self.by == _AUTO:
                self.by = _BY_LEX
            elif word == b"BYSCORE" and auto and self.by == _AUTO:
                self.by = _BY_SCORE
            else:
                raise CommandError(SYNTAX)
            i += 1
        if self.by == _AUTO:
            self.by = _BY_RANK
        if self.limit != -1 and self.by == _BY_RANK:
            raise CommandError(LIMIT_NEEDS_BY)
        if self.with_scores and self.by == _BY_LEX:
            raise CommandError(WITHSCORES_BYLEX)

    def pairs(self, db: Db) -> list[Pair]:
        """The pairs asked for, in the order asked for. Raises CommandError WRONGTYPE."""
        value = db.typed(self.key, ZSet)
        if value is None:
            return []
        start, stop = self._ranks(value)
        found = value.slice(start, stop)
        if self.reverse:
            found.reverse()
        return found

    def members_found(self, db: Db) -> list[Reply]:
        """pairs() without the scores."""
        value = db.typed(self.key, ZSet)
        if value is None:
            return []
        start, stop = self._ranks(value)
        found: list[Any] = value.members(start, stop)
        if self.reverse:
            found.reverse()
        return found

    def _ranks(self, value: ZSet) -> tuple[int, int]:
        size = len(value)
        if self.scores is not None:
            start, stop = by_score(value, *self.scores)
        elif self.members is not None:
            start, stop = by_lex(value, *self.members)
        else:
            start, stop = window(self.start, self.stop, size)
            if self.reverse:
                start, stop = size - stop, size - start
        return self._limited(start, stop, value.packed)

    def _limited(self, start: int, stop: int, packed: bool) -> tuple[int, int]:
        """The part LIMIT leaves. Source: t_zset.c genericZrangebyscoreCommand(), zslNthInRange()."""
        if self.by == _BY_RANK:
            return start, stop
        offset = self.offset
        if offset < 0:
            # Upstream's skiplist counts it from the other end of the range, a listpack has nothing there.
            offset += stop - start
            if packed or offset < 0:
                return 0, 0
        if self.reverse:
            stop -= offset
            return (start if self.limit < 0 else max(start, stop - self.limit)), stop
        start += offset
        return start, (stop if self.limit < 0 else min(stop, start + self.limit))

    def reply(self, db: Db) -> Reply:
        """What the reading commands answer."""
        return Pairs(flat_pairs(self.pairs(db))) if self.with_scores else self.members_found(db)


def _ranked(db: Db, argv: Argv) -> Reply:
    """ZRANGE by rank without options, the common case."""
    start, stop = parse_int64(argv[2]), parse_int64(argv[3])
    value = db.typed(argv[1], ZSet)
    if value is None:
        return []
    start, stop = window(start, stop, len(value.scores))
    found: Any = value.members(start, stop)
    return found


@COMMANDS.read("ZRANGE", arity=-4, since="1.2.0", keys=_KEY_ACCESS, complexity=_COST,
               summary="Returns a range of members by rank, score or member.")  # fmt: skip
def zrange(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array, with WITHSCORES pairs. Source: t_zset.c zrangeCommand()."""
    if len(argv) == _PLAIN_ARGC:
        return _ranked(ctx.db, argv)
    return RangeRequest(argv, 1, _AUTO, reverse=False, fixed=False, store=False).reply(ctx.db)


@COMMANDS.read("ZREVRANGE", arity=-4, since="1.2.0", keys=_KEY_ACCESS, complexity=_COST,
               summary="Returns a range of members by rank, highest score first.")  # fmt: skip
def zrevrange(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array, with WITHSCORES pairs. Source: t_zset.c zrevrangeCommand()."""
    return RangeRequest(argv, 1, _BY_RANK, reverse=True, fixed=True, store=False).reply(ctx.db)


@COMMANDS.read("ZRANGEBYSCORE", arity=-4, since="1.0.5", keys=_KEY_ACCESS, complexity=_COST,
               summary="Returns the members with scores in a range.")  # fmt: skip
def zrangebyscore(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array, with WITHSCORES pairs. Source: t_zset.c zrangebyscoreCommand()."""
    return RangeRequest(argv, 1, _BY_SCORE, reverse=False, fixed=True, store=False).reply(ctx.db)


@COMMANDS.read("ZREVRANGEBYSCORE", arity=-4, since="2.2.0", keys=_KEY_ACCESS, complexity=_COST,
               summary="Returns the members with scores in a range, highest first.")  # fmt: skip
def zrevrangebyscore(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array, with WITHSCORES pairs. Source: t_zset.c zrevrangebyscoreCommand()."""
    return RangeRequest(argv, 1, _BY_SCORE, reverse=True, fixed=True, store=False).reply(ctx.db)


@COMMANDS.read("ZRANGEBYLEX", arity=-4, since="2.8.9", keys=_KEY_ACCESS, complexity=_COST,
               summary="Returns the members in a range of bytes, when all scores are equal.")  # fmt: skip
def zrangebylex(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: t_zset.c zrangebylexCommand()."""
    return RangeRequest(argv, 1, _BY_LEX, reverse=False, fixed=True, store=False).reply(ctx.db)


@COMMANDS.read("ZREVRANGEBYLEX", arity=-4, since="2.8.9", keys=_KEY_ACCESS, complexity=_COST,
               summary="Returns the members in a range of bytes, highest first, if all scores are equal.")  # fmt: skip
def zrevrangebylex(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: t_zset.c zrevrangebylexCommand()."""
    return RangeRequest(argv, 1, _BY_LEX, reverse=True, fixed=True, store=False).reply(ctx.db)


@COMMANDS.write("ZRANGESTORE", arity=-5, since="6.2.0", flags="denyoom",
                keys="OW|UPDATE@i1+r0/1/0 RO|ACCESS@i2+r0/1/0", complexity=_COST,
                summary="Stores a range of members by rank, score or member.")  # fmt: skip
def zrangestore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: size of the result. Source: t_zset.c zrangestoreCommand()."""
    pairs = RangeRequest(argv, 2, _AUTO, reverse=False, fixed=False, store=True).pairs(ctx.db)
    value = ZSet()
    value.fill({member: score for score, member in pairs})
    return store_result(ctx, argv[1], value, len(pairs), NOTIFY_ZSET, b"zrangestore")


# -- counting and removing -----------------------------------------------------------------------------------------


@COMMANDS.read("ZCOUNT", arity=4, since="2.0.0", flags="fast", keys=_KEY_ACCESS,
               summary="Returns the number of members with scores in a range.",
               complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def zcount(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_zset.c zcountCommand()."""
    low, high = ScoreBound(argv[2]), ScoreBound(argv[3])
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return 0
    start, stop = by_score(value, low, high)
    return max(stop - start, 0)


@COMMANDS.read("ZLEXCOUNT", arity=4, since="2.8.9", flags="fast", keys=_KEY_ACCESS,
               summary="Returns the number of members in a range of bytes, when all scores are equal.",
               complexity="O(log(N)), N the size of the sorted set")  # fmt: skip
def zlexcount(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer. Source: t_zset.c zlexcountCommand()."""
    low, high = LexBound(argv[2]), LexBound(argv[3])
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return 0
    start, stop = by_lex(value, low, high)
    return max(stop - start, 0)


def _remove(ctx: WriteContext, key: bytes, value: ZSet, start: int, stop: int, event: bytes) -> int:
    members = value.members(start, stop)
    for member in members:
        value.remove(member)
    if members:
        after_removal(ctx, key, len(value), NOTIFY_ZSET, event)
    return len(members)


@COMMANDS.write("ZREMRANGEBYRANK", arity=4, since="2.0.0", keys=_KEY_DELETE, complexity=_REMOVE_COST,
                summary="Removes a range of members by rank.")  # fmt: skip
def zremrangebyrank(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_zset.c zremrangeGenericCommand()."""
    start, stop = parse_int64(argv[2]), parse_int64(argv[3])
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return 0
    start, stop = window(start, stop, len(value))
    return _remove(ctx, argv[1], value, start, stop, b"zremrangebyrank")


@COMMANDS.write("ZREMRANGEBYSCORE", arity=4, since="1.2.0", keys=_KEY_DELETE, complexity=_REMOVE_COST,
                summary="Removes the members with scores in a range.")  # fmt: skip
def zremrangebyscore(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_zset.c zremrangeGenericCommand()."""
    low, high = ScoreBound(argv[2]), ScoreBound(argv[3])
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return 0
    start, stop = by_score(value, low, high)
    return _remove(ctx, argv[1], value, start, stop, b"zremrangebyscore")


@COMMANDS.write("ZREMRANGEBYLEX", arity=4, since="2.8.9", keys=_KEY_DELETE, complexity=_REMOVE_COST,
                summary="Removes the members in a range of bytes, when all scores are equal.")  # fmt: skip
def zremrangebylex(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many went. Source: t_zset.c zremrangeGenericCommand()."""
    low, high = LexBound(argv[2]), LexBound(argv[3])
    value = ctx.db.typed(argv[1], ZSet)
    if value is None:
        return 0
    start, stop = by_lex(value, low, high)
    return _remove(ctx, argv[1], value, start, stop, b"zremrangebylex")

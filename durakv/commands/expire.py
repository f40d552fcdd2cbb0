"""Deadlines of keys: EXPIRE and its kin, TTL and its kin, PERSIST. [compiled]

Rule: a deadline is always stored as absolute Unix milliseconds, computed from the entry's time; one that is already
past deletes the key at once, as upstream does.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import INT64_MAX, INT64_MIN, invalid_expire, parse_int64
from durakv.commands.context import NOTIFY_GENERIC, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.table import shown
from durakv.resp.errors import CommandError
from durakv.resp.types import Reply

COMMANDS: Final = Commands("generic")

NX_WITH_OTHERS: Final = "ERR NX and XX, GT or LT options at the same time are not compatible"
GT_WITH_LT: Final = "ERR GT and LT options at the same time are not compatible"
_NX: Final = 1
_XX: Final = 2
_GT: Final = 4
_LT: Final = 8
_KEY: Final = "RW|UPDATE@i1+r0/1/0"
_KEY_RO: Final = "RO|ACCESS@i1+r0/1/0"


def parse_conditions(argv: Argv, start: int) -> int:
    """NX, XX, GT, LT from ``argv[start]`` on. Raises CommandError. Source: expire.c."""
    flags = 0
    for i in range(start, len(argv)):
        word = argv[i].upper()
        if word == b"NX":
            flags |= _NX
        elif word == b"XX":
            flags |= _XX
        elif word == b"GT":
            flags |= _GT
        elif word == b"LT":
            flags |= _LT
        else:
            raise CommandError("ERR Unsupported option " + shown(argv[i], len(argv[i])))
    if flags & _NX and flags & (_XX | _GT | _LT):
        raise CommandError(NX_WITH_OTHERS)
    if flags & _GT and flags & _LT:
        raise CommandError(GT_WITH_LT)
    return flags


def refused(flags: int, at_ms: int, current_ms: int) -> bool:
    """Whether a condition fails; ``current_ms`` -1 (no deadline) counts as infinitely late."""
    if flags & _NX and current_ms >= 0:
        return True
    if flags & _XX and current_ms < 0:
        return True
    if flags & _GT and (current_ms < 0 or at_ms <= current_ms):
        return True
    return flags & _LT != 0 and current_ms >= 0 and at_ms >= current_ms


def _expire(ctx: WriteContext, argv: Argv, command: str, *, seconds: bool, base_ms: int) -> int:
    """Source: expire.c expireGenericCommand()."""
    flags = parse_conditions(argv, 3)
    at_ms = parse_int64(argv[2])
    if seconds:
        # C's division truncates, so the smallest accepted value is -(2**63 // 1000).
        if at_ms > INT64_MAX // 1000 or at_ms < -(-INT64_MIN // 1000):
            raise invalid_expire(command)
        at_ms *= 1000
    if at_ms > INT64_MAX - base_ms:
        raise invalid_expire(command)
    at_ms += base_ms
    key = argv[1]
    db = ctx.db
    if db.get(key) is None:
        return 0
    if flags and refused(flags, at_ms, db.expiry(key)):
        return 0
    if at_ms <= ctx.now_ms:
        db.delete(key)
        ctx.notify(NOTIFY_GENERIC, b"del", key)
        return 1
    db.set_expiry(key, at_ms)
    ctx.notify(NOTIFY_GENERIC, b"expire", key)
    return 1


@COMMANDS.write("EXPIRE", arity=-3, since="1.0.0", flags="fast", keys=_KEY,
                summary="Lets a key expire after a number of seconds.")  # fmt: skip
def expire(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1, or 0 when the key is absent or a condition failed. Source: expire.c expireCommand()."""
    return _expire(ctx, argv, "expire", seconds=True, base_ms=ctx.now_ms)


@COMMANDS.write("EXPIREAT", arity=-3, since="1.2.0", flags="fast", keys=_KEY,
                summary="Lets a key expire at a Unix time in seconds.")  # fmt: skip
def expireat(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: expire.c expireatCommand()."""
    return _expire(ctx, argv, "expireat", seconds=True, base_ms=0)


@COMMANDS.write("PEXPIRE", arity=-3, since="2.6.0", flags="fast", keys=_KEY,
                summary="Lets a key expire after a number of milliseconds.")  # fmt: skip
def pexpire(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: expire.c pexpireCommand()."""
    return _expire(ctx, argv, "pexpire", seconds=False, base_ms=ctx.now_ms)


@COMMANDS.write("PEXPIREAT", arity=-3, since="2.6.0", flags="fast", keys=_KEY,
                summary="Lets a key expire at a Unix time in milliseconds.")  # fmt: skip
def pexpireat(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 or 0. Source: expire.c pexpireatCommand()."""
    return _expire(ctx, argv, "pexpireat", seconds=False, base_ms=0)


@COMMANDS.write("PERSIST", arity=2, since="2.2.0", flags="fast", keys=_KEY,
                summary="Removes the deadline of a key.")  # fmt: skip
def persist(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1, or 0 without a key or deadline. Source: expire.c persistCommand()."""
    key = argv[1]
    if ctx.db.get(key) is None or not ctx.db.clear_expiry(key):
        return 0
    ctx.notify(NOTIFY_GENERIC, b"persist", key)
    return 1


def _deadline(ctx: ReadContext, key: bytes) -> int:
    """Unix ms; -2 without the key, -1 without a deadline."""
    if ctx.db.get(key) is None:
        return -2
    return ctx.db.expiry(key)


def _left_ms(ctx: ReadContext, key: bytes) -> int:
    at_ms = _deadline(ctx, key)
    if at_ms < 0:
        return at_ms
    return max(at_ms - ctx.now_ms, 0)


def _to_seconds(ms: int) -> int:
    """Rounded half up; the negative answers stay."""
    return ms if ms < 0 else (ms + 500) // 1000


@COMMANDS.read("TTL", arity=2, since="1.0.0", flags="fast", keys=_KEY_RO, tips="nondeterministic_output",
               summary="Returns the seconds until a key expires.")  # fmt: skip
def ttl(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: s, -1 without a deadline, -2 without a key. Source: expire.c ttlGenericCommand()."""
    return _to_seconds(_left_ms(ctx, argv[1]))


@COMMANDS.read("PTTL", arity=2, since="2.6.0", flags="fast", keys=_KEY_RO, tips="nondeterministic_output",
               summary="Returns the milliseconds until a key expires.")  # fmt: skip
def pttl(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: ms, -1 or -2. Source: expire.c ttlGenericCommand()."""
    return _left_ms(ctx, argv[1])


@COMMANDS.read("EXPIRETIME", arity=2, since="7.0.0", flags="fast", keys=_KEY_RO,
               summary="Returns the Unix time in seconds at which a key expires.")  # fmt: skip
def expiretime(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: s, -1 or -2. Source: expire.c ttlGenericCommand()."""
    return _to_seconds(_deadline(ctx, argv[1]))


@COMMANDS.read("PEXPIRETIME", arity=2, since="7.0.0", flags="fast", keys=_KEY_RO,
               summary="Returns the Unix time in milliseconds at which a key expires.")  # fmt: skip
def pexpiretime(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: ms, -1 or -2. Source: expire.c ttlGenericCommand()."""
    return _deadline(ctx, argv[1])

"""Looking through all keys of a database: SCAN, KEYS, RANDOMKEY, DBSIZE. [compiled]

Rule: expired keys are never shown, and looking at them here never asks for a tick: absence from a listing is no
promise that a key is gone.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import ReadContext
from durakv.commands.generic_values import type_name
from durakv.commands.glob import glob_match, is_literal
from durakv.commands.scan import ScanOptions, parse_cursor, parse_options, scan_slots
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.keyspace import Db
from durakv.keyspace.slots import SLOTS
from durakv.resp.types import Reply

COMMANDS: Final = Commands("generic")

# Tries at random before the first live key in order is taken; only a mass of expired keys makes them all fail.
_TRIES: Final = 100


@COMMANDS.read("SCAN", arity=-2, since="2.8.0", flags="touches_arbitrary_keys",
               tips="nondeterministic_output request_policy:special response_policy:special",
               complexity="O(1) a call, O(N) a full pass, N the number of keys",
               summary="Walks through the keys of the database, some at a time.")  # fmt: skip
def scan(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: [cursor, keys]. Source: db.c scanGenericCommand()."""
    cursor = parse_cursor(argv[1])
    options = parse_options(argv, 2, b"")
    after, keys = scan_slots(ctx.db, cursor, options.count)
    return [b"%d" % after, matching(ctx, keys, options)]


def matching(ctx: ReadContext, keys: list[bytes], options: ScanOptions) -> list[object]:
    """Those of the stored ``keys`` that have not expired and pass MATCH and TYPE."""
    found: list[object] = []
    db = ctx.db
    for key in keys:
        if not options.wants(key) or _expired(db, key, ctx.now_ms):
            continue
        if options.type is not None:
            value = db.peek(key)
            assert value is not None
            if type_name(value) != options.type:
                continue
        found.append(key)
    return found


def _expired(db: Db, key: bytes, now_ms: int) -> bool:
    at_ms = db.expiry(key)
    return 0 <= at_ms <= now_ms


@COMMANDS.read("KEYS", arity=2, since="1.0.0", acl="dangerous",
               tips="request_policy:all_shards nondeterministic_output_order",
               complexity="O(N), N the number of keys",
               summary="Returns all keys that match a pattern.")  # fmt: skip
def keys(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: array. Source: db.c keysCommand()."""
    pattern = argv[1]
    db = ctx.db
    found: list[bytes] = []
    if is_literal(pattern):
        if db.peek(pattern) is not None and not _expired(db, pattern, ctx.now_ms):
            found.append(pattern)
        return found
    everything = pattern == b"*"
    for mapping in db.slots:
        if mapping is not None:
            found += [key for key in mapping if everything or glob_match(pattern, key)]
    if db.nexp:
        found = [key for key in found if not _expired(db, key, ctx.now_ms)]
    return found


@COMMANDS.read("RANDOMKEY", arity=1, since="1.0.0", flags="touches_arbitrary_keys",
               tips="request_policy:all_shards response_policy:special nondeterministic_output",
               summary="Returns some key of the database.")  # fmt: skip
def randomkey(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: a key or null. Source: db.c randomkeyCommand()."""
    db = ctx.db
    if db.size == 0:
        return None
    for _ in range(_TRIES):
        key = _nth(db, ctx.below(db.size))
        if not _expired(db, key, ctx.now_ms):
            return key
    for mapping in db.slots:
        if mapping is not None:
            for key in mapping:
                if not _expired(db, key, ctx.now_ms):
                    return key
    return None


def _nth(db: Db, n: int) -> bytes:
    """The n-th stored key in slot order."""
    for slot in range(SLOTS):
        mapping = db.slots[slot]
        if mapping is None:
            continue
        if n < len(mapping):
            for key in mapping:
                if n == 0:
                    return key
                n -= 1
        n -= len(mapping)
    raise AssertionError("the database holds fewer keys than it counts")

"""Whole databases: DBSIZE, FLUSHDB, FLUSHALL, SWAPDB. [compiled]"""

from __future__ import annotations

from typing import Final

from durakv.commands.args import parse_count
from durakv.commands.context import ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import DB_INDEX, SYNTAX, CommandError
from durakv.resp.types import OK, Reply

COMMANDS: Final = Commands("server")

FIRST_INDEX: Final = "ERR invalid first DB index"
SECOND_INDEX: Final = "ERR invalid second DB index"
_INT_MAX: Final = (1 << 31) - 1


@COMMANDS.read("DBSIZE", arity=1, since="1.0.0", flags="fast", acl="keyspace",
               tips="request_policy:all_shards response_policy:agg_sum",
               summary="Returns the number of keys in the database.")  # fmt: skip
def dbsize(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: a count; keys whose deadline passed but that no entry removed yet are in it. Source: db.c."""
    return ctx.db.size


def _check_mode(argv: Argv) -> None:
    """SYNC and ASYNC are the same here: dropping a database costs nothing, freeing it is the memory allocator's."""
    if len(argv) > 2 or (len(argv) == 2 and argv[1].upper() not in (b"SYNC", b"ASYNC")):
        raise CommandError(SYNTAX)


@COMMANDS.write("FLUSHDB", arity=-1, since="1.0.0", acl="keyspace dangerous",
                tips="request_policy:all_shards response_policy:all_succeeded",
                complexity="O(1), plus freeing the keys", summary="Removes every key of the database.")  # fmt: skip
def flushdb(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: db.c flushdbCommand()."""
    _check_mode(argv)
    ctx.db.flush()
    return OK


@COMMANDS.write("FLUSHALL", arity=-1, since="1.0.0", flags="all_dbs", acl="keyspace dangerous",
                tips="request_policy:all_shards response_policy:all_succeeded",
                complexity="O(1), plus freeing the keys", summary="Removes every key of all databases.")  # fmt: skip
def flushall(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: db.c flushallCommand()."""
    _check_mode(argv)
    # Those who cache are told even where there was nothing.
    ctx.ks.flushes += 1
    for db in ctx.ks.dbs:
        if db.size:
            db.flush()
    return OK


@COMMANDS.write("SWAPDB", arity=3, since="4.0.0", flags="fast", acl="keyspace dangerous",
                complexity="O(1) without watched keys", summary="Exchanges the contents of two databases.")  # fmt: skip
def swapdb(ctx: WriteContext, argv: Argv) -> Reply:
    """Source: db.c swapdbCommand()."""
    first = parse_count(argv[1], -_INT_MAX - 1, _INT_MAX, FIRST_INDEX)
    second = parse_count(argv[2], -_INT_MAX - 1, _INT_MAX, SECOND_INDEX)
    count = len(ctx.ks.dbs)
    if not (0 <= first < count and 0 <= second < count):
        raise CommandError(DB_INDEX)
    if first != second:
        ctx.ks.swap(first, second)
    return OK

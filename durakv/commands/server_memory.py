"""MEMORY and DEBUG: estimates and diagnostics.

Rule: looks at stored values without touching them; DEBUG answers only where enable-debug-command allows it.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

from durakv.commands.context import LocalContext, ReadContext
from durakv.commands.local_text import help_reply, integer, text
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.slots import slot_of
from durakv.resp.errors import NO_SUCH_KEY, SYNTAX, CommandError
from durakv.resp.types import NULL_ARRAY, OK, Map, Reply, SetReply, Simple, Verbatim

COMMANDS: Final[Commands] = Commands("server")

DEBUG_OFF: Final = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local '
    "connection, otherwise you need to set this option in the configuration file, and then restart the server."
)
_SAMPLES_DEFAULT: Final = 5
_DEPTH_MAX: Final = 12
# A dict slot: hash, key and value pointers, and its share of the index.
_ENTRY_BYTES: Final = 40
_LEAF_TYPES: Final = (bytes, bytearray, int, float, str, bool)


def memory_of(value: object, samples: int, depth: int = 0) -> int:
    """Estimated bytes of a stored value, from at most ``samples`` elements per container (0: all)."""
    size = sys.getsizeof(value)
    if isinstance(value, _LEAF_TYPES) or depth >= _DEPTH_MAX:
        return size
    parts = [part for part in gc.get_referents(value) if not isinstance(part, type) and not callable(part)]
    if not parts:
        return size
    looked = parts if samples <= 0 else parts[:samples]
    inner = sum(memory_of(part, samples, depth + 1) for part in looked)
    return size + inner * len(parts) // len(looked)


@COMMANDS.read("MEMORY|USAGE", arity=-3, since="4.0.0", summary="Estimates the memory a key takes.",
               complexity="O(N), N the number of samples", keys="RO@i2+r0/1/0")  # fmt: skip
def memory_usage(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: bytes, null without the key. Source: object.c memoryCommand()."""
    samples = _SAMPLES_DEFAULT
    at = 3
    while at < len(argv):
        if argv[at].upper() != b"SAMPLES" or at + 1 >= len(argv):
            raise CommandError(SYNTAX)
        samples = integer(argv[at + 1])
        if samples < 0:
            raise CommandError(SYNTAX)
        at += 2
    value = ctx.db.get(argv[2])
    if value is None:
        return None
    return memory_of(value, samples) + sys.getsizeof(argv[2]) + _ENTRY_BYTES


@COMMANDS.local("MEMORY|STATS", arity=2, since="4.0.0", summary="Where memory goes.",
                tips="nondeterministic_output request_policy:all_shards response_policy:special")  # fmt: skip
def memory_stats(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of Valkey's names that mean something here."""
    node = ctx.node
    rss = node.instruments.process.rss_bytes()
    keys = sum(db.size for db in node.ks.dbs)
    clients = sum(s.out_bytes for s in node.clients.values())
    flat: list[Reply] = [
        b"peak.allocated", max(rss, node.stats.memory_peak_bytes), b"total.allocated", rss,
        b"startup.allocated", node.stats.memory_startup_bytes, b"replication.backlog", 0, b"clients.slaves", 0,
        b"clients.normal", clients, b"cluster.links", 0, b"aof.buffer", 0, b"lua.caches", 0, b"functions.caches", 0,
    ]  # fmt: skip
    for db in node.ks.dbs:
        if db.size:
            flat += [b"db.%d" % db.number, Map([
                b"overhead.hashtable.main", db.size * _ENTRY_BYTES, b"overhead.hashtable.expires",
                db.nexp * _ENTRY_BYTES])]  # fmt: skip
    dataset = max(0, rss - node.stats.memory_startup_bytes)
    flat += [
        b"overhead.total", node.stats.memory_startup_bytes, b"keys.count", keys,
        b"keys.bytes-per-key", dataset // keys if keys else 0, b"dataset.bytes", dataset,
        b"dataset.percentage", 100.0 * dataset / rss if rss else 0.0, b"fragmentation", 1.0, b"fragmentation.bytes", 0,
    ]  # fmt: skip
    return Map(flat)


@COMMANDS.local("MEMORY|DOCTOR", arity=2, since="4.0.0", summary="What memory use suggests.",
                tips="nondeterministic_output request_policy:all_shards response_policy:special")  # fmt: skip
def memory_doctor(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text."""
    node = ctx.node
    rss = node.instruments.process.rss_bytes()
    total = node.instruments.process.total_memory_bytes()
    if total and rss > total * 8 // 10:
        said = (
            f"The process uses {rss} of {total} bytes. Set maxmemory below that, so that writes are refused before the "
            "kernel stops the node."
        )
    elif not node.settings.maxmemory:
        said = "No problem seen. maxmemory is not set: writes are refused only when the machine runs out of memory."
    else:
        said = "No problem seen."
    return Verbatim(said.encode() + b"\n")


@COMMANDS.local("MEMORY|MALLOC-STATS", arity=2, since="4.0.0", summary="Statistics of the allocator.",
                flags="loading",
                tips="nondeterministic_output request_policy:all_shards response_policy:special")  # fmt: skip
def memory_malloc_stats(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text."""
    counts = gc.get_count()
    blocks = sys.getallocatedblocks()
    return Verbatim(f"allocated blocks: {blocks}\ncollector generations: {counts}\n".encode())


@COMMANDS.local("MEMORY|PURGE", arity=2, since="4.0.0", summary="Asks the allocator to give memory back.",
                flags="loading", tips="request_policy:all_shards response_policy:all_succeeded")  # fmt: skip
def memory_purge(ctx: LocalContext, argv: Argv) -> Reply:
    """Collects garbage cycles; the rest is the allocator's own business."""
    gc.collect()
    return OK


@COMMANDS.local("MEMORY|HELP", arity=2, since="4.0.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def memory_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("DOCTOR", "What memory use suggests."),
        ("MALLOC-STATS", "Statistics of the allocator."),
        ("PURGE", "Ask the allocator to give memory back."),
        ("STATS", "Where memory goes."),
        ("USAGE <key> [SAMPLES <count>]", "Estimated bytes of a key."),
    ])  # fmt: skip


@COMMANDS.local("DEBUG", arity=-2, since="1.0.0", summary="Diagnostics for developers and test suites.",
                flags="admin noscript loading stale protected")  # fmt: skip
def debug(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: debug.c debugCommand(), the subset that has a meaning here."""
    allowed = ctx.node.settings.enable_debug_command
    host = ctx.session.address.rpartition(":")[0]
    if allowed != "yes" and not (allowed == "local" and host in ("127.0.0.1", "::1", "[::1]")):
        raise CommandError(DEBUG_OFF)
    word = argv[1].upper()
    count = len(argv)
    if word == b"HELP":
        return _debug_help(argv)
    if word == b"SLEEP" and count == 3:
        try:
            seconds = float(argv[2])
        except ValueError:
            raise CommandError("ERR value is not a valid float") from None
        ctx.node.instruments.process.stall(max(0, int(seconds * 1000)))
        return OK
    if word == b"OBJECT" and count >= 3:
        return _debug_object(ctx, argv[2])
    if word == b"DIGEST" and count == 2:
        return Simple(ctx.node.state_digest()[1].encode())
    if word == b"STATE" and count == 2:
        return _debug_state(ctx)
    if word == b"PROTOCOL" and count == 3:
        return _debug_protocol(argv[2].lower())
    if word == b"JMAP":
        raise CommandError("ERR JMAP is not available; use DEBUG STATE, MEMORY STATS or MEMORY MALLOC-STATS")
    if word in (b"SET-ACTIVE-EXPIRE", b"SET-DISABLE-DENY-SCRIPTS", b"QUICKLIST-PACKED-THRESHOLD",
                b"REPLICATE", b"CHANGE-REPL-ID", b"RELOAD", b"LOADAOF"):  # fmt: skip
        raise CommandError(f"ERR DEBUG {text(word)} does not apply to durakv")
    raise CommandError(f"ERR unknown subcommand or wrong number of arguments for '{text(argv[1])}'. Try DEBUG HELP.")


def _debug_object(ctx: LocalContext, key: bytes) -> Reply:
    db = ctx.node.ks.dbs[ctx.session.db]
    value = db.peek(key)
    if value is None:
        raise CommandError(NO_SUCH_KEY)
    return Simple(
        f"Value type:{type(value).__name__} refcount:1 serializedlength:{memory_of(value, 0)} slot:{slot_of(key)} "
        f"expires:{db.expiry(key)}".encode()
    )


def _debug_state(ctx: LocalContext) -> Reply:
    view = ctx.node.group()
    applied, digest = ctx.node.state_digest()
    return Map([
        b"role", view.role.encode(), b"term", view.term, b"leader", view.leader_id, b"commit", view.commit_index,
        b"applied", applied, b"last", view.last_index, b"durable", view.durable_index, b"digest", digest.encode(),
    ])  # fmt: skip


def _debug_protocol(kind: bytes) -> Reply:
    replies: dict[bytes, Reply] = {
        b"string": b"Hello World", b"integer": 12345, b"double": 3.141, b"null": None, b"array": [0, 1, 2],
        b"set": SetReply([0, 1, 2]), b"map": Map([0, False, 1, True, 2, False]), b"verbatim":
        Verbatim(b"This is a verbatim\nstring"), b"true": True, b"false": False, b"null-array": NULL_ARRAY,
    }  # fmt: skip
    if kind not in replies:
        names = b", ".join(replies).decode()
        raise CommandError(f"ERR Wrong protocol type name. Please use one of the following: {names}")
    return replies[kind]


def _debug_help(argv: Argv) -> Reply:
    return help_reply(argv, [
        ("DIGEST", "16 hex digits over all data, equal on nodes at the same applied index."),
        ("OBJECT <key>", "How a value is stored."),
        ("PROTOCOL <type>", "A sample reply of a type."),
        ("SLEEP <seconds>", "Stop the node's event loop; elections may follow."),
        ("STATE", "Role, term, indexes and digest of this node."),
    ])  # fmt: skip

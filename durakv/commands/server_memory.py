"""MEMORY: estimates of what takes memory.

Rule: looks at stored values without touching them.
"""

from __future__ import annotations

import gc
import sys
from typing import Final

from durakv.commands.connection_filters import client_memory
from durakv.commands.context import LocalContext, ReadContext
from durakv.commands.local_text import help_reply, integer
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import OK, Map, Reply, Verbatim

COMMANDS: Final[Commands] = Commands("server")

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
    """Reply: map of Valkey's names; what only its allocator and buffers take is 0. Source: object.c memoryCommand()."""
    node = ctx.node
    rss = node.instruments.process.rss_bytes()
    used = node.eviction.used_bytes()
    startup = min(node.stats.memory_startup_bytes, used)
    peak = max(used, node.stats.memory_peak_bytes)
    keys = sum(db.size for db in node.ks.dbs)
    clients = sum(client_memory(s)[3] for s in node.clients.values())
    tables = 0
    by_db: list[Reply] = []
    for db in node.ks.dbs:
        if db.size:
            main, expires = db.size * _ENTRY_BYTES, db.nexp * _ENTRY_BYTES
            tables += main + expires
            by_db += [b"db.%d" % db.number, Map([b"overhead.hashtable.main", main,
                                                 b"overhead.hashtable.expires", expires])]  # fmt: skip
    overhead = startup + clients + tables
    dataset = max(0, used - overhead)
    net = max(1, used - startup)
    flat: list[Reply] = [
        b"peak.allocated", peak, b"total.allocated", used, b"startup.allocated", startup, b"replication.backlog", 0,
        b"clients.slaves", 0, b"clients.normal", clients, b"cluster.links", 0, b"aof.buffer", 0, b"lua.caches", 0,
        b"functions.caches", 0, *by_db, b"overhead.db.hashtable.lut", tables, b"overhead.db.hashtable.rehashing", 0,
        b"overhead.total", overhead, b"db.dict.rehashing.count", 0, b"keys.count", keys,
        b"keys.bytes-per-key", max(0, used - startup) // keys if keys else 0, b"dataset.bytes", dataset,
        b"dataset.percentage", min(100.0, 100.0 * dataset / net), b"peak.percentage", 100.0 * used / max(1, peak),
        b"allocator.allocated", used, b"allocator.active", rss, b"allocator.resident", rss, b"allocator.muzzy", 0,
        b"allocator-fragmentation.ratio", rss / max(1, used), b"allocator-fragmentation.bytes", rss - used,
        b"allocator-rss.ratio", 1.0, b"allocator-rss.bytes", 0, b"rss-overhead.ratio", 1.0, b"rss-overhead.bytes", 0,
        b"fragmentation", rss / max(1, used), b"fragmentation.bytes", rss - used,
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

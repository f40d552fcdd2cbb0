"""DEBUG: the subcommands of Valkey's that have a meaning here, for test suites, client libraries and comparisons.

Rule: answers only where enable-debug-command allows it; looks at data and changes none. What would crash, corrupt or
bypass the log is not offered.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.commands import valkey_digest
from durakv.commands.context import LocalContext
from durakv.commands.generic_values import encoding_of
from durakv.commands.glob import glob_match
from durakv.commands.local_text import help_reply, integer, text
from durakv.commands.spec import Argv, Commands
from durakv.config.values import parse_size
from durakv.keyspace.dump import dump_payload
from durakv.keyspace.keyspace import Db
from durakv.keyspace.values.hash import Hash
from durakv.keyspace.values.setvalue import SetValue
from durakv.keyspace.values.zset import ZSet
from durakv.observe.events import Notice
from durakv.resp.errors import NO_SUCH_KEY, CommandError
from durakv.resp.types import OK, BigNumber, Encoded, Map, Reply, SetReply, Simple, Verbatim

COMMANDS: Final[Commands] = Commands("server")

DEBUG_OFF: Final = (
    'ERR DEBUG command not allowed. If the enable-debug-command option is set to "local", you can run it from a local '
    "connection, otherwise you need to set this option in the configuration file, and then restart the server."
)
# Type, version and checksum around a value in a DUMP payload.
_DUMP_FRAME_BYTES: Final = 11
_PLAIN_MAX: Final = 4 << 30
_MATCH_MAX: Final = 1 << 20
_ATTRIBUTE_WIRE: Final = (
    b"|1\r\n$14\r\nkey-popularity\r\n*2\r\n$7\r\nkey:123\r\n:90\r\n$39\r\nSome real reply following the attribute\r\n"
)
_PUSH_WIRE: Final = b"$40\r\nSome real reply following the push reply\r\n>2\r\n$16\r\nserver-cpu-usage\r\n:42\r\n"
_NOT_HERE: Final = {
    "JMAP": "is the JVM's; use DEBUG STATE, MEMORY STATS or MEMORY MALLOC-STATS",
    "POPULATE": "writes past the log; write keys with MSET, or load a file with durakv-cli import",
    "REPLICATE": "writes past the log; REPLICATE has no use where every node applies the same entries",
    "LOADAOF": "reads a file durakv does not have; use durakv-cli import",
    "SEGFAULT": "is not offered; kill the process",
    "PANIC": "is not offered; kill the process",
    "ASSERT": "is not offered; kill the process",
    "OOM": "is not offered; kill the process",
    "RESTART": "is not offered; let the service manager restart the node",
    "CRASH-AND-RECOVER": "is not offered; let the service manager restart the node",
    "LEAK": "is not offered",
    "SET-DISABLE-DENY-SCRIPTS": "is not offered; scripts never run what they must not",
}
_HELP: Final = (
    ("CHANGE-REPL-ID", "Accepted; the id is the group's and stays."),
    ("DIGEST", "40 hex digits over all data, as valkey-server tells for the same data."),
    ("DIGEST-VALUE <key> [<key> ...]", "40 hex digits over each value."),
    ("ERROR <string>", "Answer with this error."),
    ("HTSTATS <db> [full]", "How many slots and keys a database has."),
    ("HTSTATS-KEY <key> [full]", "How many elements a hash table has."),
    ("LISTPACK <key>", "Accepted for packed values; nothing is printed."),
    ("LOG <message>", "Write a line into the log."),
    ("OBJECT <key> [fast]", "How a value is stored."),
    ("PROTOCOL <type>", "A sample reply of a type."),
    ("QUICKLIST-PACKED-THRESHOLD <size>", "Accepted; lists are kept in one way."),
    ("RELOAD [MERGE|NOFLUSH|NOSAVE ...]", "Accepted; what is acknowledged is in the log, and a start reads it."),
    ("REPLYBUFFER (PEAK-RESET-TIME <time>|RESIZING <0|1>)", "Accepted; there is no buffer of fixed size."),
    ("SET-ACTIVE-EXPIRE <0|1>", "Whether this node, when it leads, expires keys nobody reads."),
    ("SLEEP <seconds>", "Stop the node's event loop; elections may follow."),
    ("STATE", "Role, term, indexes and digest of this node, equal on nodes at the same applied index."),
    ("STRINGMATCH-LEN <length> <pattern>", "Match a pattern against that many letters a."),
)


@COMMANDS.local("DEBUG", arity=-2, since="1.0.0", summary="Diagnostics for developers and test suites.",
                flags="admin noscript loading stale protected")  # fmt: skip
def debug(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: debug.c debugCommand(), the subset that has a meaning here."""
    allowed = ctx.node.settings.enable_debug_command
    host = ctx.session.address.rpartition(":")[0]
    if allowed != "yes" and not (allowed == "local" and host in ("127.0.0.1", "::1", "[::1]")):
        raise CommandError(DEBUG_OFF)
    word = text(argv[1]).upper()
    if word in _NOT_HERE:
        raise CommandError(f"ERR DEBUG {word} {_NOT_HERE[word]}")
    found = _SUBCOMMANDS.get(word)
    if found is None or not found[0] <= len(argv) <= found[1]:
        raise _unknown(argv)
    return found[2](ctx, argv)


def _unknown(argv: Argv) -> CommandError:
    return CommandError(f"ERR unknown subcommand or wrong number of arguments for '{text(argv[1])}'. Try DEBUG HELP.")


def _accepted(ctx: LocalContext, argv: Argv) -> Reply:
    return OK


def _help(ctx: LocalContext, argv: Argv) -> Reply:
    return help_reply(argv, list(_HELP))


def _sleep(ctx: LocalContext, argv: Argv) -> Reply:
    try:
        seconds = float(argv[2])
    except ValueError:
        seconds = 0.0
    ctx.node.instruments.process.stall(max(0, int(seconds * 1000)))
    return OK


# -- values ----------------------------------------------------------------------------------------------------------


def _db(ctx: LocalContext) -> Db:
    return ctx.node.ks.dbs[ctx.session.db]


def _value(ctx: LocalContext, key: bytes) -> object:
    value = _db(ctx).peek(key)
    if value is None:
        raise CommandError(NO_SUCH_KEY)
    return value


def _object(ctx: LocalContext, argv: Argv) -> Reply:
    """Valkey's words; there are no addresses, and times of use are OBJECT IDLETIME's business."""
    value = _value(ctx, argv[2])
    told = f"Value at:0x0 refcount:1 encoding:{encoding_of(value).decode()}"
    if len(argv) == 4 and argv[3].lower() == b"fast":
        return Simple(f"{told} lru:0 lru_seconds_idle:0".encode())
    size = len(dump_payload(value)) - _DUMP_FRAME_BYTES
    return Simple(f"{told} serializedlength:{size} lru:0 lru_seconds_idle:0".encode())


def _listpack(ctx: LocalContext, argv: Argv) -> Reply:
    if encoding_of(_value(ctx, argv[2])) != b"listpack":
        raise CommandError("ERR Not a listpack encoded object.")
    return Simple(b"Listpack structure printed on stdout")


def _digest(ctx: LocalContext, argv: Argv) -> Reply:
    return Simple(valkey_digest.of_all(ctx.node.ks).encode())


def _digest_value(ctx: LocalContext, argv: Argv) -> Reply:
    return [Simple(valkey_digest.of_key(_db(ctx), key).encode()) for key in argv[2:]]


def _htstats(ctx: LocalContext, argv: Argv) -> Reply:
    number = integer(argv[2])
    dbs = ctx.node.ks.dbs
    if not 0 <= number < len(dbs):
        raise CommandError("ERR Out of range database")
    db = dbs[number]
    used = sum(1 for slot in db.slots if slot)
    return Verbatim(
        b"[Dictionary HT]\nHash table 0 stats (main hash table):\n table size: %d\n number of entries: %d\n"
        b"[Expires HT]\n%b" % (used, db.size, b" number of entries: %d\n" % db.nexp if db.nexp else b"")
    )


def _htstats_key(ctx: LocalContext, argv: Argv) -> Reply:
    value = _value(ctx, argv[2])
    if encoding_of(value) not in (b"hashtable", b"skiplist"):
        raise CommandError("ERR The value stored at the specified key is not represented using an hash table")
    assert isinstance(value, (Hash, SetValue, ZSet))
    return Verbatim(b"Hash table 0 stats (main hash table):\n number of entries: %d\n" % len(value))


# -- the node --------------------------------------------------------------------------------------------------------


def _state(ctx: LocalContext, argv: Argv) -> Reply:
    view = ctx.node.group()
    applied, digest = ctx.node.state_digest()
    return Map([
        b"role", view.role.encode(), b"term", view.term, b"leader", view.leader_id, b"commit", view.commit_index,
        b"applied", applied, b"last", view.last_index, b"durable", view.durable_index, b"digest", digest.encode(),
    ])  # fmt: skip


def _set_active_expire(ctx: LocalContext, argv: Argv) -> Reply:
    ctx.node.upkeep.sweeping = _truth(argv[2])
    return OK


def _truth(word: bytes) -> bool:
    """What C's atoi() makes of it."""
    digits = word.lstrip(b"+-")
    return bool(digits[:1].isdigit() and digits.lstrip(b"0")[:1].isdigit())


def _threshold(ctx: LocalContext, argv: Argv) -> Reply:
    try:
        size = parse_size(text(argv[2]))
    except ValueError:
        size = -1
    if not 0 <= size <= _PLAIN_MAX:
        raise CommandError("ERR argument must be a memory value bigger than 1 and smaller than 4gb")
    return OK


def _reload(ctx: LocalContext, argv: Argv) -> Reply:
    if any(word.upper() not in (b"MERGE", b"NOFLUSH", b"NOSAVE") for word in argv[2:]):
        raise CommandError("ERR DEBUG RELOAD only supports the MERGE, NOFLUSH and NOSAVE options.")
    return OK


def _replybuffer(ctx: LocalContext, argv: Argv) -> Reply:
    if argv[2].upper() not in (b"PEAK-RESET-TIME", b"RESIZING"):
        raise _unknown(argv)
    return OK


def _log(ctx: LocalContext, argv: Argv) -> Reply:
    ctx.node.observer.event(Notice("debug-log", text(argv[2])))
    return OK


# -- replies and patterns --------------------------------------------------------------------------------------------


def _error(ctx: LocalContext, argv: Argv) -> Reply:
    raise CommandError(text(argv[2]))


def _stringmatch(ctx: LocalContext, argv: Argv) -> Reply:
    glob_match(argv[3], b"a" * min(max(0, integer(argv[2])), _MATCH_MAX))
    return OK


def _protocol(ctx: LocalContext, argv: Argv) -> Reply:
    resp3 = ctx.session.protocol == 3
    if argv[2].lower() == b"push" and not resp3:
        raise CommandError("ERR RESP2 is not supported by this command")
    replies: dict[bytes, Reply] = {
        b"string": b"Hello World", b"integer": 12345, b"double": 3.141,
        b"bignum": BigNumber(b"1234567999999999999999999999999999999"), b"null": None, b"array": [0, 1, 2],
        b"set": SetReply([0, 1, 2]), b"map": Map([0, False, 1, True, 2, False]),
        b"attrib": Encoded(_ATTRIBUTE_WIRE) if resp3 else b"Some real reply following the attribute",
        b"push": Encoded(_PUSH_WIRE), b"verbatim": Verbatim(b"This is a verbatim\nstring"), b"true": True,
        b"false": False,
    }  # fmt: skip
    kind = argv[2].lower()
    if kind not in replies:
        names = "|".join(name.decode() for name in replies)
        raise CommandError(f"ERR Wrong protocol type name. Please use one of the following: {names}")
    return replies[kind]


_ANY: Final = 1 << 20
# Word -> least and most words of the request, and who answers it.
_SUBCOMMANDS: Final[dict[str, tuple[int, int, Callable[[LocalContext, Argv], Reply]]]] = {
    "CHANGE-REPL-ID": (2, 2, _accepted), "DIGEST": (2, 2, _digest), "DIGEST-VALUE": (2, _ANY, _digest_value),
    "ERROR": (3, 3, _error), "HELP": (2, 2, _help), "HTSTATS": (3, 4, _htstats), "HTSTATS-KEY": (3, 4, _htstats_key),
    "LISTPACK": (3, 3, _listpack), "LOG": (3, 3, _log), "OBJECT": (3, 4, _object), "PROTOCOL": (3, 3, _protocol),
    "QUICKLIST-PACKED-THRESHOLD": (3, 3, _threshold), "RELOAD": (2, _ANY, _reload), "REPLYBUFFER": (4, 4, _replybuffer),
    "SET-ACTIVE-EXPIRE": (3, 3, _set_active_expire), "SLEEP": (3, 3, _sleep), "STATE": (2, 2, _state),
    "STRINGMATCH-LEN": (4, 4, _stringmatch),
}  # fmt: skip

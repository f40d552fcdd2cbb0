"""What the proxy does with each command, decided once for all of them. [compiled]

Rule: the only place that decides it; a command of the table without keys that is not named here fails the build of the
plans, so none is undecided. docs/proxy.md shows the same table, and a test compares them.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.spec import READ, Argv
from durakv.commands.table import Row, Table
from durakv.resp.errors import CommandError

# By its keys' slot, on a shared connection.
KEYED: Final = 0
# As KEYED, or in parts when its keys are in several slots.
SPLIT: Final = 1
# Any leader.
ANY: Final = 2
# The state of this connection: done alone, after everything before it.
SESSION: Final = 3
# May wait for as long as it likes: on a connection of its own.
BLOCKING: Final = 4
# Every leader, and their replies made one.
EVERY: Final = 5
# Answered here.
HERE: Final = 6
REFUSED: Final = 7
# Has subcommands; those have plans.
CONTAINER: Final = 8

NAMES: Final = {
    KEYED: "by key", SPLIT: "split", ANY: "any node", SESSION: "session", BLOCKING: "own connection",
    EVERY: "every group", HERE: "proxy", REFUSED: "refused",
}  # fmt: skip

_ONE_NODE: Final = "concerns one node: connect to that node"
_ALL_NODES: Final = "changes one node only: connect to each node, or use its configuration"
_FOLLOWS: Final = "is for cluster clients; the proxy follows slots itself"
_OPERATOR: Final = "is an operator's: connect to a node"

# Keyed by kind; the text of a refusal says what to do instead.
_SPLIT: Final = "mget mset del unlink exists touch"
_ANY: Final = (
    "ping echo time lolwut role lastsave publish command command|count command|info command|docs command|list "
    "command|getkeys command|getkeysandflags command|help config|get config|help acl|whoami acl|users acl|list "
    "acl|getuser acl|cat acl|genpass acl|dryrun acl|help function|list function|dump function|stats function|help "
    "script|show script|help module|list module|help object|help xgroup|help xinfo|help memory|help pubsub|help "
    "slowlog|help commandlog|help latency|help cluster|keyslot cluster|help"
)
_SESSION: Final = (
    "hello auth select reset multi exec discard watch unwatch subscribe unsubscribe psubscribe punsubscribe ssubscribe "
    "sunsubscribe wait waitaof scan randomkey info client|tracking cluster|countkeysinslot cluster|getkeysinslot"
)
_EVERY: Final = (
    "dbsize keys flushdb flushall script|load script|exists script|flush script|kill function|load function|delete "
    "function|flush function|restore function|kill pubsub|channels pubsub|numsub pubsub|numpat pubsub|shardchannels "
    "pubsub|shardnumsub"
)
_HERE: Final = (
    "quit readonly readwrite client|id client|getname client|setname client|setinfo client|info client|list "
    "client|reply client|no-evict client|capa client|caching client|getredir client|trackinginfo client|help"
)
_REFUSED: Final = {
    "asking": _FOLLOWS, "restore-asking": _FOLLOWS, "clusterscan": "is for cluster clients; use SCAN",
    "migrate": "works between two nodes: connect to one", "swapdb": "cannot be done in several groups at once",
    "monitor": _ONE_NODE, "debug": _ONE_NODE, "pfdebug": _ONE_NODE, "pfselftest": _ONE_NODE,
    "save": _ONE_NODE, "bgsave": _ONE_NODE, "bgrewriteaof": _ONE_NODE, "shutdown": _OPERATOR, "failover": _OPERATOR,
    "replconf": _OPERATOR, "sync": _OPERATOR, "psync": _OPERATOR, "replicaof": _OPERATOR, "slaveof": _OPERATOR,
    "client|kill": "would have to reach other proxies and nodes: connect to a node",
    "client|no-touch": "is not kept on shared connections: connect to a node",
    "client|pause": _OPERATOR, "client|unpause": _OPERATOR, "client|import-source": _OPERATOR,
    "client|unblock": "cannot see other proxies' clients: close the waiting connection instead",
    "config|set": _ALL_NODES, "config|rewrite": _ALL_NODES, "config|resetstat": _ALL_NODES,
    "slowlog|get": _ONE_NODE, "slowlog|len": _ONE_NODE, "slowlog|reset": _ONE_NODE, "commandlog|get": _ONE_NODE,
    "commandlog|len": _ONE_NODE, "commandlog|reset": _ONE_NODE, "latency|latest": _ONE_NODE,
    "latency|history": _ONE_NODE, "latency|reset": _ONE_NODE, "latency|graph": _ONE_NODE, "latency|doctor": _ONE_NODE,
    "latency|histogram": _ONE_NODE, "memory|stats": _ONE_NODE, "memory|doctor": _ONE_NODE,
    "memory|malloc-stats": _ONE_NODE, "memory|purge": _ONE_NODE, "module|load": _ALL_NODES,
    "module|loadex": _ALL_NODES, "module|unload": _ALL_NODES, "acl|setuser": _ALL_NODES, "acl|deluser": _ALL_NODES,
    "acl|load": _ALL_NODES, "acl|save": _ALL_NODES, "acl|log": _ONE_NODE, "script|debug": _ONE_NODE,
}  # fmt: skip
# Every other CLUSTER subcommand: a client that asks shall see no cluster and stay a plain client.
NO_CLUSTER: Final = "ERR This instance has cluster support disabled"
_REFUSED_GROUPS: Final = ("cluster|",)
_SCRIPTS: Final = ("eval", "evalsha", "eval_ro", "evalsha_ro", "fcall", "fcall_ro")
# Without keys, yet not to be done twice.
_ONCE: Final = ("publish", "spublish")
# Neither reads nor of any node, yet doing them twice changes nothing.
_HARMLESS: Final = (
    "hello", "auth", "select", "watch", "info", "cluster|countkeysinslot", "cluster|getkeysinslot", "pubsub|channels",
    "pubsub|numsub", "pubsub|numpat", "pubsub|shardchannels", "pubsub|shardnumsub",
)  # fmt: skip
# Keys by the table, though only their first argument says where they belong.
_CHANNEL_FIRST: Final = ("spublish",)
# Allowed to a RESP2 connection with subscriptions.
_IN_PUBSUB: Final = (
    "ping", "quit", "reset", "subscribe", "unsubscribe", "psubscribe", "punsubscribe", "ssubscribe", "sunsubscribe",
)  # fmt: skip
# Leave or change a transaction instead of becoming part of it.
_IN_MULTI: Final = ("multi", "exec", "discard", "watch", "quit", "reset")


class Plan:
    """One command or subcommand. ``key_at`` is n when the only key is always argv[n], else -1, 0 without keys.

    ``again``: a read, or nothing that harms when done twice, so it may be sent again after its connection broke.
    ``refusal`` is the error text of what the proxy does not do.
    """

    __slots__ = (
        "again", "argc_max", "argc_min", "code", "immediate", "key_at", "may_block", "name", "pubsub_ok", "refusal",
        "row", "script", "subs",
    )  # fmt: skip

    def __init__(self, row: Row, code: int, refusal: str) -> None:
        self.row = row
        self.name = row.name
        self.code = code
        self.refusal = refusal
        self.key_at = 1 if row.name in _CHANNEL_FIRST else row.key_at
        self.argc_min = row.argc_min
        self.argc_max = row.argc_max
        self.again = row.kind == READ or row.name in _HARMLESS or (code == ANY and row.name not in _ONCE)
        self.script = row.name in _SCRIPTS
        # Those that may wait unless told otherwise are BLOCKING at once; these only with BLOCK among their words.
        self.may_block = row.name in ("xread", "xreadgroup")
        self.pubsub_ok = row.name in _IN_PUBSUB
        self.immediate = row.name in _IN_MULTI
        self.subs: dict[bytes, Plan] | None = None

    def keys(self, argv: Argv) -> list[bytes]:
        """The keys; none where the arguments are malformed, which the node will say better."""
        if self.key_at > 0:
            return [argv[self.key_at]]
        return self.row.keys(argv)


class Plans:
    """All plans by name. ``by_name`` has the names clients send most, in both cases."""

    def __init__(self, table: Table) -> None:
        self._table = table
        self.by_name: dict[bytes, Plan] = {}
        self.all: list[Plan] = []
        rows: dict[str, Plan] = {}
        decided = _decisions()
        for row in table.all:
            plan = _plan(row, decided)
            rows[row.name] = plan
            self.all.append(plan)
            if "|" not in row.name:
                self.by_name[row.name.encode()] = plan
                self.by_name[row.name.upper().encode()] = plan
        for row in table.all:
            if row.subs is not None:
                rows[row.name].subs = {name: rows[sub.name] for name, sub in row.subs.items()}
        unknown = [name for name in decided if name not in rows]
        if unknown:
            raise ValueError(f"plans for commands that do not exist: {', '.join(sorted(unknown))}")

    def find(self, argv: Argv) -> Plan:
        """The plan of a request whose number of arguments fits. Raises CommandError."""
        plan = self.by_name.get(argv[0])
        if plan is None or plan.subs is not None or not plan.argc_min <= len(argv) <= plan.argc_max:
            return self._slowly(argv)
        return plan

    def _slowly(self, argv: Argv) -> Plan:
        row = self._table.find(argv)
        plan = self.by_name[row.name.partition("|")[0].encode()]
        if plan.subs is not None and len(argv) > 1:
            return plan.subs[argv[1].upper()]
        if plan.code == CONTAINER:
            raise CommandError(f"ERR wrong number of arguments for '{row.name}' command")
        return plan


def blocks(argv: Argv) -> bool:
    """Whether an XREAD or XREADGROUP asks to wait."""
    for word in argv[1:]:
        upper = word.upper()
        if upper == b"STREAMS":
            return False
        if upper == b"BLOCK":
            return True
    return False


def _decisions() -> dict[str, tuple[int, str]]:
    decided: dict[str, tuple[int, str]] = {}
    for code, names in ((SPLIT, _SPLIT), (ANY, _ANY), (SESSION, _SESSION), (EVERY, _EVERY), (HERE, _HERE)):
        for name in names.split():
            if name in decided:
                raise ValueError(f"two plans for {name}")
            decided[name] = (code, "")
    for name, advice in _REFUSED.items():
        if name in decided:
            raise ValueError(f"two plans for {name}")
        decided[name] = (REFUSED, f"ERR '{name.replace('|', ' ')}' is not done by the proxy: it {advice}")
    decided["spublish"] = (KEYED, "")
    return decided


def _plan(row: Row, decided: dict[str, tuple[int, str]]) -> Plan:
    found = decided.get(row.name)
    if found is not None:
        return Plan(row, found[0], found[1])
    if row.subs is not None:
        # COMMAND alone is a request, the other containers are none.
        return Plan(row, CONTAINER, "")
    if row.name.startswith(_REFUSED_GROUPS):
        return Plan(row, REFUSED, NO_CLUSTER)
    if not row.specs and row.declaration.key_positions is None:
        raise ValueError(f"the proxy has no plan for {row.name}: add it to durakv/proxy/plans.py")
    if row.is_blocking and row.name not in ("xread", "xreadgroup"):
        return Plan(row, BLOCKING, "")
    return Plan(row, KEYED, "")

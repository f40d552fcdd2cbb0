"""Commands about the connection itself: HELLO, AUTH, PING, SELECT, RESET and CLIENT.

Rule: these change the session that sent them, or close others; never data.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.commands.connection_filters import CAPABILITIES, ClientFilter, client_line
from durakv.commands.context import LocalContext
from durakv.commands.local_text import bad_subcommand, help_reply, integer, on_off, text, timeout_ms
from durakv.commands.spec import Argv, Commands
from durakv.commands.version import COMPATIBLE_REDIS, COMPATIBLE_VALKEY
from durakv.resp.encoder import encode
from durakv.resp.errors import DB_INDEX, SYNTAX, CommandError, wrong_arity
from durakv.resp.types import NO_REPLY, OK, PONG, Map, Reply, Simple, Verbatim

if TYPE_CHECKING:
    from durakv.acl.users import User
    from durakv.commands.session import Session

COMMANDS: Final[Commands] = Commands("connection")

NOPROTO: Final = "NOPROTO unsupported protocol version"
HELLO_NOAUTH: Final = (
    "NOAUTH HELLO must be called with the client already authenticated, otherwise the HELLO <proto> AUTH <user> <pass> "
    "option can be used to authenticate the client and select the RESP protocol version at the same time"
)
NO_CLUSTER: Final = "ERR This instance has cluster support disabled"
_LIST_HELP: Final = (
    "Details of connections. Options: ID, TYPE, ADDR, LADDR, IP, USER, NAME, MAXAGE, IDLE, DB, FLAGS, LIB-NAME, "
    "LIB-VER, SKIPME, and NOT- before them."
)


@COMMANDS.local("HELLO", arity=-1, since="6.0.0",
                summary="Handshakes: protocol version, authentication and name in one step.",
                flags="noscript loading stale fast no_auth allow_busy")  # fmt: skip
def hello(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of server facts. Source: networking.c helloCommand()."""
    s = ctx.session
    protocol = s.protocol
    at = 2
    if len(argv) > 1:
        protocol = integer(argv[1], "ERR Protocol version is not an integer or out of range")
        if protocol not in (2, 3):
            raise CommandError(NOPROTO)
    user = s.user
    name: bytes | None = None
    while at < len(argv):
        option = argv[at].upper()
        left = len(argv) - at - 1
        if option == b"AUTH" and left >= 2:
            user = _login(ctx, argv[at + 1], argv[at + 2], b"HELLO")
            at += 3
        elif option == b"SETNAME" and left >= 1:
            name = _checked_name(argv[at + 1], "Client names")
            at += 2
        else:
            raise CommandError(f"ERR Syntax error in HELLO option '{text(argv[at])}'")
    if user is None:
        raise CommandError(HELLO_NOAUTH)
    _become(s, user)
    if name is not None:
        s.name = name
    s.protocol = protocol
    settings = ctx.node.settings
    old_name = settings.extended_redis_compatibility
    flat: list[Reply] = [
        b"server", b"redis" if old_name else b"valkey",
        b"version", COMPATIBLE_REDIS if old_name else COMPATIBLE_VALKEY,
        b"proto", protocol,
        b"id", s.id,
        b"mode", b"cluster" if settings.cluster_enabled else b"standalone",
        b"role", b"master" if ctx.node.group().role == "leader" else b"replica",
        b"modules", [],
    ]  # fmt: skip
    if settings.availability_zone:
        flat += [b"availability_zone", settings.availability_zone.encode()]
    return Map(flat)


@COMMANDS.local("AUTH", arity=-2, since="1.0.0", summary="Authenticates the connection.",
                flags="noscript loading stale fast no_auth allow_busy")  # fmt: skip
def auth(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: acl.c authCommand()."""
    if len(argv) > 3:
        raise CommandError(SYNTAX)
    if len(argv) == 3:
        user = _login(ctx, argv[1], argv[2], b"AUTH")
    elif ctx.node.acl.default.nopass:
        user = ctx.node.acl.authenticate_default(argv[1])
    else:
        user = _login(ctx, ctx.node.acl.default.name, argv[1], b"AUTH")
    _become(ctx.session, user)
    return OK


def _login(ctx: LocalContext, name: bytes, password: bytes, command: bytes) -> User:
    try:
        return ctx.node.acl.authenticate(name, password)
    except CommandError:
        now_ms = ctx.node.clock.wall_ms()
        ctx.node.stats.acl_denied_auth += 1
        client = client_line(ctx.session, now_ms).encode("utf-8", "surrogateescape")
        ctx.node.acl.denials.note("auth", "toplevel", command, name, client, now_ms)
        raise


def _become(s: Session, user: User) -> None:
    s.user = user
    s.authenticated = True


@COMMANDS.local("PING", arity=-1, since="1.0.0", summary="Answers PONG, or the argument.", flags="fast",
                tips="request_policy:all_shards response_policy:all_succeeded")  # fmt: skip
def ping(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +PONG; a bulk string with an argument; an array in RESP2's subscriber mode. Source: server.c."""
    if len(argv) > 2:
        raise wrong_arity("ping")
    s = ctx.session
    if s.in_pubsub() and s.protocol == 2:
        return [b"pong", argv[1] if len(argv) == 2 else b""]
    return argv[1] if len(argv) == 2 else PONG


@COMMANDS.local("ECHO", arity=2, since="1.0.0", summary="Answers its argument.",
                flags="loading stale fast")  # fmt: skip
def echo(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: server.c echoCommand()."""
    return argv[1]


@COMMANDS.local("SELECT", arity=2, since="1.0.0", summary="Changes the database of the connection.",
                flags="allow_busy loading stale fast")  # fmt: skip
def select(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: db.c selectCommand()."""
    number = integer(argv[1])
    settings = ctx.node.settings
    if number and settings.cluster_enabled and settings.cluster_databases == 1:
        raise CommandError("ERR SELECT is not allowed in cluster mode")
    if not 0 <= number < min(settings.database_count(), len(ctx.node.ks.dbs)):
        raise CommandError(DB_INDEX)
    ctx.session.db = number
    return OK


@COMMANDS.local("QUIT", arity=-1, since="1.0.0", summary="Closes the connection.",
                flags="allow_busy noscript loading stale fast no_auth")  # fmt: skip
def quit_(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: networking.c quitCommand()."""
    return answer_and_close(ctx, OK)


def answer_and_close(ctx: LocalContext, reply: Reply) -> Reply:
    """Queue ``reply`` and close the connection behind it."""
    s = ctx.session
    if s.reply_mode == b"on":
        s.write(encode(reply, s.protocol))
    ctx.node.close_client(s)
    return NO_REPLY


@COMMANDS.local("RESET", arity=1, since="6.2.0", summary="Returns the connection to its first state.",
                flags="noscript loading stale fast no_auth allow_busy")  # fmt: skip
def reset(ctx: LocalContext, argv: Argv) -> Reply:
    """Library name and version stay: they describe the client, not the session. Source: networking.c."""
    s, node = ctx.session, ctx.node
    s.multi = None
    s.multi_error = False
    node.unwatch(s)
    node.pubsub.forget(s)
    node.tracking.disable(s)
    node.instruments.monitors.forget(s)
    s.db = 0
    s.protocol = 2
    s.name = b""
    s.readonly = s.no_evict = s.no_touch = s.skip_next = False
    s.reply_mode = b"on"
    s.user = node.acl.initial_user()
    s.authenticated = s.user is not None
    return Simple(b"RESET")


@COMMANDS.local("READONLY", arity=1, since="3.0.0",
                summary="Lets this connection read from a follower, possibly stale data.",
                flags="fast loading stale", acl="connection", group="cluster")  # fmt: skip
def readonly(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: cluster.c readonlyCommand()."""
    if not ctx.node.settings.replica_serve_stale_reads:
        raise CommandError("ERR replica-serve-stale-reads is no on this node, reads always go to the leader")
    ctx.session.readonly = True
    return OK


@COMMANDS.local("READWRITE", arity=1, since="3.0.0",
                summary="Makes reads of this connection linearizable again.", flags="fast loading stale",
                acl="connection", group="cluster")  # fmt: skip
def readwrite(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: cluster.c readwriteCommand()."""
    ctx.session.readonly = False
    return OK


@COMMANDS.local("ASKING", arity=1, since="3.0.0",
                summary="Accepted; no slot is ever on its way elsewhere.",
                flags="fast", acl="connection", group="cluster")  # fmt: skip
def asking(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: cluster.c askingCommand()."""
    if not ctx.node.settings.cluster_enabled:
        raise CommandError(NO_CLUSTER)
    return OK


# -- CLIENT ----------------------------------------------------------------------------------------------------------


@COMMANDS.local("CLIENT|ID", arity=2, since="5.0.0", summary="The unique id of the connection.",
                flags="allow_busy noscript loading stale")  # fmt: skip
def client_id(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer."""
    return ctx.session.id


@COMMANDS.local("CLIENT|INFO", arity=2, since="6.2.0",
                summary="The line of CLIENT LIST for this connection.", flags="noscript loading stale",
                tips="nondeterministic_output")  # fmt: skip
def client_info(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text."""
    line = client_line(ctx.session, ctx.node.clock.wall_ms(), sum(map(len, argv)))
    return Verbatim((line + "\n").encode("utf-8", "surrogateescape"))


@COMMANDS.local("CLIENT|LIST", arity=-2, since="2.4.0",
                summary="A line for each connection to this node, optionally filtered.",
                flags="admin noscript loading stale", tips="nondeterministic_output")  # fmt: skip
def client_list(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: verbatim text. Source: networking.c clientCommand()."""
    now_ms = ctx.node.clock.wall_ms()
    wanted = ClientFilter(now_ms)
    wanted.parse(argv, 2, dict(ctx.node.acl.users))
    argv_bytes = sum(map(len, argv))
    lines = [
        client_line(s, now_ms, argv_bytes if s is ctx.session else 0) + "\n"
        for s in ctx.node.clients.values()
        if wanted.matches(s) and not (wanted.skip_me and s is ctx.session)
    ]
    return Verbatim("".join(lines).encode("utf-8", "surrogateescape"))


@COMMANDS.local("CLIENT|KILL", arity=-3, since="2.4.0",
                summary="Closes connections by address or by filters.",
                flags="admin noscript loading stale")  # fmt: skip
def client_kill(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK in the old form (one address), else how many were closed. Source: networking.c clientCommand()."""
    node = ctx.node
    if len(argv) == 3:
        victims = [s for s in node.clients.values() if s.address == text(argv[2])]
        if not victims:
            raise CommandError("ERR No such client")
        reply: Reply = OK
    else:
        wanted = ClientFilter(node.clock.wall_ms())
        wanted.parse(argv, 2, dict(node.acl.users))
        skip_me = wanted.skip_me is not False
        victims = [s for s in node.clients.values() if wanted.matches(s) and not (skip_me and s is ctx.session)]
        reply = len(victims)
    me = False
    for s in victims:
        if s is ctx.session:
            me = True
        elif s.sink is not None:
            s.sink.kill()
    return answer_and_close(ctx, reply) if me else reply


@COMMANDS.local("CLIENT|SETNAME", arity=3, since="2.6.9", summary="Names the connection.",
                flags="allow_busy noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def client_setname(ctx: LocalContext, argv: Argv) -> Reply:
    """An empty name removes it."""
    ctx.session.name = _checked_name(argv[2], "Client names")
    return OK


@COMMANDS.local("CLIENT|GETNAME", arity=2, since="2.6.9", summary="The name of the connection.",
                flags="allow_busy noscript loading stale")  # fmt: skip
def client_getname(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: bulk string or null."""
    return ctx.session.name or None


@COMMANDS.local("CLIENT|SETINFO", arity=4, since="7.2.0",
                summary="Tells the name or version of the client library.",
                flags="allow_busy noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def client_setinfo(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: networking.c clientSetinfoCommand()."""
    option = argv[2].lower()
    if option == b"lib-name":
        ctx.session.lib_name = _checked_name(argv[3], "lib-name")
    elif option == b"lib-ver":
        ctx.session.lib_ver = _checked_name(argv[3], "lib-ver")
    else:
        raise CommandError(f"ERR Unrecognized option '{text(argv[2])}'")
    return OK


def _checked_name(value: bytes, what: str) -> bytes:
    if any(not 33 <= letter <= 126 for letter in value):
        raise CommandError(f"ERR {what} cannot contain spaces, newlines or special characters.")
    return value


@COMMANDS.local("CLIENT|REPLY", arity=3, since="3.2.0", summary="Whether the connection wants replies.",
                flags="allow_busy noscript no_multi loading stale")  # fmt: skip
def client_reply(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK for ON, nothing for OFF and SKIP. Source: networking.c clientCommand()."""
    s = ctx.session
    mode = argv[2].lower()
    if mode == b"on":
        s.reply_mode = b"on"
        return OK
    if mode == b"off":
        s.reply_mode = b"off"
        return NO_REPLY
    if mode == b"skip":
        if s.reply_mode != b"off":
            s.reply_mode = b"skip"
        return NO_REPLY
    raise CommandError(SYNTAX)


@COMMANDS.local("CLIENT|NO-EVICT", arity=3, since="7.0.0",
                summary="Protects the connection from client eviction.",
                flags="allow_busy admin noscript loading stale")  # fmt: skip
def client_no_evict(ctx: LocalContext, argv: Argv) -> Reply:
    """Kept for CLIENT LIST; durakv evicts no clients."""
    ctx.session.no_evict = on_off(argv[2])
    return OK


@COMMANDS.local("CLIENT|NO-TOUCH", arity=3, since="7.2.0",
                summary="Whether this connection's commands leave access times alone.",
                flags="allow_busy noscript loading stale")  # fmt: skip
def client_no_touch(ctx: LocalContext, argv: Argv) -> Reply:
    """Kept for CLIENT LIST; access times are not recorded."""
    ctx.session.no_touch = on_off(argv[2])
    return OK


@COMMANDS.local("CLIENT|PAUSE", arity=-3, since="3.0.0",
                summary="Holds back commands of clients for a time.",
                flags="admin noscript loading stale")  # fmt: skip
def client_pause(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: networking.c clientCommand()."""
    writes_only = False
    if len(argv) > 4:
        raise bad_subcommand(argv)
    if len(argv) == 4:
        mode = argv[3].upper()
        if mode not in (b"WRITE", b"ALL"):
            raise CommandError("ERR CLIENT PAUSE mode must be WRITE or ALL")
        writes_only = mode == b"WRITE"
    ctx.node.pause_clients(ctx.node.clock.wall_ms() + timeout_ms(argv[2]), writes_only)
    return OK


@COMMANDS.local("CLIENT|UNPAUSE", arity=2, since="6.2.0", summary="Ends CLIENT PAUSE.",
                flags="admin noscript loading stale")  # fmt: skip
def client_unpause(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: networking.c clientCommand()."""
    ctx.node.unpause_clients()
    return OK


@COMMANDS.local("CLIENT|UNBLOCK", arity=-3, since="5.0.0",
                summary="Ends the wait of a blocked client, as by timeout or with an error.",
                flags="admin noscript loading stale")  # fmt: skip
def client_unblock(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: 1 when it ended a wait, else 0. Source: networking.c clientCommand()."""
    if len(argv) > 4:
        raise bad_subcommand(argv)
    reason = argv[3].upper() if len(argv) == 4 else b"TIMEOUT"
    if reason not in (b"TIMEOUT", b"ERROR"):
        raise CommandError("ERR CLIENT UNBLOCK reason should be TIMEOUT or ERROR")
    return ctx.node.unblock_client(ctx.session, integer(argv[2]), error=reason == b"ERROR")


@COMMANDS.local("CLIENT|CAPA", arity=-3, since="8.0.0", summary="Tells what the client can do.",
                flags="allow_busy noscript loading stale")  # fmt: skip
def client_capa(ctx: LocalContext, argv: Argv) -> Reply:
    """Unknown words are ignored, as in Valkey; REDIRECT changes nothing: followers forward instead of redirecting."""
    for word in argv[2:]:
        letter = CAPABILITIES.get(word.lower(), "")
        if letter not in ctx.session.capa:
            ctx.session.capa += letter
    return OK


@COMMANDS.local("CLIENT|IMPORT-SOURCE", arity=3, since="8.1.0",
                summary="Refused: there is no import mode.",
                flags="noscript loading stale")  # fmt: skip
def client_import_source(ctx: LocalContext, argv: Argv) -> Reply:
    """Always refused, as Valkey does outside import mode, which durakv does not have."""
    on_off(argv[2])
    raise CommandError("ERR Server is not in import mode")


@COMMANDS.local("CLIENT|HELP", arity=2, since="5.0.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def client_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("CACHING (YES|NO)", "Track the keys of the next command, or not, in OPTIN and OPTOUT mode."),
        ("CAPA <option> [<option> ...]", "Tell what the client can do: REDIRECT is shown in LIST, followers forward."),
        ("GETNAME", "The name of this connection."),
        ("GETREDIR", "The client invalidations are redirected to."),
        ("ID", "The id of this connection."),
        ("INFO", "Details of this connection."),
        ("KILL <ip:port>", "Close the connection from that address."),
        ("KILL <option> <value> [<option> <value> ...]", "Close the connections that match; options as for LIST."),
        ("LIST [<option> <value> ...]", _LIST_HELP),
        ("NO-EVICT (ON|OFF)", "Accepted; no clients are evicted."),
        ("NO-TOUCH (ON|OFF)", "Accepted; access times are not recorded."),
        ("PAUSE <timeout-ms> [WRITE|ALL]", "Hold back commands for a time."),
        ("REPLY (ON|OFF|SKIP)", "Whether replies are sent."),
        ("SETINFO (LIB-NAME|LIB-VER) <value>", "Tell about the client library."),
        ("SETNAME <name>", "Name this connection."),
        ("TRACKING (ON|OFF) [REDIRECT <id>] [BCAST] [PREFIX <prefix> [...]] [OPTIN] [OPTOUT] [NOLOOP]",
         "Be told of changes to keys this connection has read."),
        ("TRACKINGINFO", "State of client-side caching."),
        ("UNBLOCK <client-id> [TIMEOUT|ERROR]", "End a blocked client's wait."),
        ("UNPAUSE", "End PAUSE."),
    ])  # fmt: skip

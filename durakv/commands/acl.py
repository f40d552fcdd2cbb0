"""ACL: users and their permissions. What changes them is logged and holds on every node.

Rule: rules are interpreted by durakv/acl only; this words the answers and says whose connections a change ends.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from durakv.acl.denials import Denial
from durakv.acl.file import parse, text_of
from durakv.acl.selector import CommandFacts, CommandIndex, Selector
from durakv.acl.users import Acl, Denied
from durakv.commands.connection_filters import client_line
from durakv.commands.context import LocalContext, WriteContext
from durakv.commands.glob import glob_match
from durakv.commands.local_text import bad_subcommand, help_reply, integer, text, wire
from durakv.commands.spec import CATEGORIES, CATEGORY_NAMES, FLAGS, Argv, Commands
from durakv.resp.errors import CommandError, wrong_arity
from durakv.resp.types import OK, Map, Reply, SetReply

if TYPE_CHECKING:
    from durakv.acl.accounts import Accounts
    from durakv.acl.users import User
    from durakv.commands.services import Services
    from durakv.commands.session import Session
    from durakv.commands.table import Row, Table
    from durakv.config.settings import Settings
    from durakv.world.ports import Rng

COMMANDS: Final[Commands] = Commands("server")

NO_ACL_FILE: Final = (
    "ERR This instance is not configured to use an ACL file. You may want to specify users via the ACL SETUSER command "
    "and then issue a CONFIG REWRITE (assuming you have a configuration file set) in order to store users in the "
    "configuration."
)
_GENPASS_BITS_MAX: Final = 4096
_LOG_DEFAULT: Final = 10
# ACL LOAD is logged as a SETUSER of nobody with this mark, then name, count and rules of each user: LOAD itself has no
# room for arguments. No client can send it, since all that clients send is given a mark of its own.
_FILE: Final = b"\0file"


def command_index(table: Table) -> CommandIndex:
    """What permissions need to know of every command; build it once and give it to Acl."""
    facts = [
        CommandFacts(
            row.name,
            frozenset(name for name, bit in CATEGORIES.items() if row.categories & bit),
            tuple(row.specs),
            row.declaration.key_positions,
            no_auth=bool(row.flags & FLAGS["no_auth"]),
        )
        for row in table.all
    ]
    return CommandIndex(facts, CATEGORY_NAMES, glob_match)


def build_acl(settings: Settings, table: Table, rng: Rng) -> Acl:
    """The users of a node, in step with requirepass, acl-pubsub-default and acllog-max-len."""
    acl = Acl(rng, command_index(table))

    def follow(name: str) -> None:
        if name == "requirepass" or (not name and settings.requirepass):
            acl.set_requirepass(settings.requirepass)
        acl.all_channels = settings.acl_pubsub_default == "allchannels"
        acl.denials.length_max = settings.acllog_max_len
        del acl.denials.entries[settings.acllog_max_len :]

    for name in ("requirepass", "acl-pubsub-default", "acllog-max-len"):
        settings.watch(name, follow)
    follow("")
    return acl


def load_users(settings: Settings, acl: Acl) -> None:
    """The users this node's configuration or ACL file names, until the log says otherwise. Raises ValueError."""
    path, text_ = "configuration", "\n".join(settings.user_lines)
    if settings.aclfile:
        if settings.user_lines:
            raise ValueError("users are defined both by user lines and in an aclfile; keep one of them")
        path = settings.aclfile
        assert settings.files is not None
        try:
            text_ = settings.files.read(path)
        except OSError as e:
            raise ValueError(f"aclfile {path}: {e.strerror}; create the file or remove the directive") from None
    try:
        for name, rules in parse(acl, text_, path):
            acl.become(name, rules)
    except CommandError as e:
        raise ValueError(f"aclfile: {e.text.removeprefix('ERR ')}") from None


def note_denied(node: Services, s: Session, denied: Denied) -> None:
    """Record a refusal for ACL LOG and INFO; call where the gate turns Denied into a reply."""
    stats = node.stats
    if denied.reason == "command":
        stats.acl_denied_command += 1
    elif denied.reason == "key":
        stats.acl_denied_key += 1
    else:
        stats.acl_denied_channel += 1
    now_ms = node.clock.wall_ms()
    context = "toplevel" if s.multi is None else "multi"
    name = b"" if s.user is None else s.user.name
    node.acl.denials.note(denied.reason, context, denied.refused, name, wire(client_line(s, now_ms)), now_ms)


@COMMANDS.local("ACL|WHOAMI", arity=2, since="6.0.0", summary="The user of the connection.",
                flags="noscript loading stale")  # fmt: skip
def acl_whoami(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: bulk string."""
    return None if ctx.session.user is None else ctx.session.user.name


@COMMANDS.local("ACL|USERS", arity=2, since="6.0.0", summary="Names of all users.",
                flags="admin noscript loading stale")  # fmt: skip
def acl_users(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array in byte order."""
    return sorted(ctx.node.acl.users)


@COMMANDS.local("ACL|LIST", arity=2, since="6.0.0", summary="All users with their rules.",
                flags="admin noscript loading stale")  # fmt: skip
def acl_list(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of ``user <name> <rules>``."""
    users = ctx.node.acl.users
    return [b"user " + name + b" " + users[name].text() for name in sorted(users)]


@COMMANDS.local("ACL|GETUSER", arity=3, since="6.0.0", summary="One user's rules, taken apart.",
                flags="admin noscript loading stale")  # fmt: skip
def acl_getuser(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map, null for an unknown user. Source: acl.c aclCommand()."""
    user = ctx.node.acl.users.get(argv[2])
    if user is None:
        return None
    flags: list[Reply] = list(user.flags())
    more: list[Reply] = [Map(_selector(selector)) for selector in user.selectors[1:]]
    return Map([
        b"flags", SetReply(flags), b"passwords", list(user.passwords), *_selector(user.selectors[0]),
        b"selectors", more,
    ])  # fmt: skip


def _selector(selector: Selector) -> list[Reply]:
    return [
        b"commands", selector.command_text().encode(), b"keys", selector.key_text(), b"channels",
        selector.channel_text(),
    ]  # fmt: skip


@COMMANDS.write("ACL|SETUSER", arity=-3, since="6.0.0", summary="Creates or changes a user.",
                flags="admin noscript loading stale", write_flag=False,
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def acl_setuser(ctx: WriteContext, argv: Argv) -> Reply:
    """All rules or none, as acl/accounts.py prepared them. Source: acl.c aclCommand()."""
    if len(argv) > 3 and argv[3] == _FILE:
        return acl_load(ctx, argv)
    _accounts(ctx).set_user(argv)
    return OK


def _accounts(ctx: WriteContext) -> Accounts:
    accounts = ctx.ks.accounts
    assert accounts is not None
    return accounts


def prepared(node: Services, row: Row, argv: Argv) -> Argv:
    """The form in which ACL SETUSER or LOAD is logged; for the leader. Raises CommandError where it is refused."""
    accounts = node.ks.accounts
    assert accounts is not None
    if row.name == "acl|setuser":
        return accounts.prepared(argv)
    settings = node.settings
    if not settings.aclfile or settings.files is None:
        raise CommandError(NO_ACL_FILE)
    try:
        text_ = settings.files.read(settings.aclfile)
    except OSError as e:
        raise CommandError(f"ERR Error loading ACLs, opening file '{settings.aclfile}': {e.strerror}") from None
    out = [b"ACL", b"SETUSER", b"", _FILE]
    for name, rules in parse(node.acl, text_, settings.aclfile):
        out += [name, b"%d" % len(rules), *rules]
    return out


def unfit(sessions: list[Session], users: list[User]) -> list[Session]:
    """The connections that changes to ``users`` end: of deleted ones, and those listening where they no longer may."""
    return [
        s for s in sessions if s.user is not None and s.user in users and (s.user.deleted or not _may_listen(s, s.user))
    ]


def _may_listen(s: Session, user: User) -> bool:
    """Whether the user's rules still cover what a session has subscribed to."""
    for channels, pattern in ((s.channels, False), (s.shard_channels, False), (s.patterns, True)):
        for channel in channels:
            if not any(selector.channel_allowed(channel, pattern=pattern) for selector in user.selectors):
                return False
    return True


@COMMANDS.write("ACL|DELUSER", arity=-3, since="6.0.0",
                summary="Deletes users and closes their connections.",
                flags="admin noscript loading stale", write_flag=False,
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def acl_deluser(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: how many existed. Source: acl.c aclCommand()."""
    return _accounts(ctx).delete_users(argv[2:])


@COMMANDS.local("ACL|CAT", arity=-2, since="6.0.0", summary="Categories, or the commands of one.",
                flags="noscript loading stale")  # fmt: skip
def acl_cat(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of names."""
    if len(argv) > 3:
        raise bad_subcommand(argv)
    if len(argv) == 2:
        return [name.encode() for name in CATEGORY_NAMES]
    category = text(argv[2]).lower()
    if category not in CATEGORIES:
        raise CommandError(f"ERR Unknown category '{text(argv[2])[:128]}'")
    return [name.encode() for name in ctx.node.acl.index.in_category(category)]


@COMMANDS.local("ACL|GENPASS", arity=-2, since="6.0.0", summary="An unpredictable password.",
                flags="noscript loading stale")  # fmt: skip
def acl_genpass(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: hex digits, 64 unless told. Source: acl.c aclCommand()."""
    if len(argv) > 3:
        raise bad_subcommand(argv)
    bits = integer(argv[2]) if len(argv) == 3 else 256
    if not 0 < bits <= _GENPASS_BITS_MAX:
        raise CommandError(
            "ERR ACL GENPASS argument must be the number of bits for the output password, a positive number up to "
            f"{_GENPASS_BITS_MAX}"
        )
    return ctx.node.acl.genpass(bits)


@COMMANDS.local("ACL|DRYRUN", arity=-4, since="7.0.0",
                summary="Whether a user may run a command, without running it.",
                flags="admin noscript loading stale")  # fmt: skip
def acl_dryrun(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: +OK, or the refusal as a bulk string. Source: acl.c aclCommand()."""
    user = ctx.node.acl.users.get(argv[2])
    if user is None:
        raise CommandError(f"ERR User '{text(argv[2])}' not found")
    inner = argv[3:]
    row = ctx.node.table.lookup(inner[0])
    if row is not None and row.subs is not None and len(inner) > 1:
        row = row.subs.get(inner[1].upper())
    if row is None:
        raise CommandError(f"ERR Command '{text(inner[0])}' not found")
    if not row.argc_min <= len(inner) <= row.argc_max:
        raise wrong_arity(row.name)
    denied = user.judge(ctx.node.acl.index.facts[row.name], inner, verbose=True)
    return OK if denied is None else denied.text.removeprefix("NOPERM ").encode("utf-8", "surrogateescape")


@COMMANDS.local("ACL|LOG", arity=-2, since="6.0.0", summary="Refused requests and logins, newest first.",
                flags="admin noscript loading stale")  # fmt: skip
def acl_log(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of maps; RESET empties it. Source: acl.c aclCommand()."""
    log = ctx.node.acl.denials
    if len(argv) > 3:
        raise bad_subcommand(argv)
    count = _LOG_DEFAULT
    if len(argv) == 3:
        if argv[2].upper() == b"RESET":
            log.clear()
            return OK
        count = max(0, integer(argv[2]))
    now_ms = ctx.node.clock.wall_ms()
    return [_denial(entry, now_ms) for entry in log.entries[:count]]


def _denial(entry: Denial, now_ms: int) -> Reply:
    return Map([
        b"count", entry.count, b"reason", entry.reason.encode(), b"context", entry.context.encode(),
        b"object", entry.refused, b"username", entry.username,
        b"age-seconds", max(0, now_ms - entry.updated_ms) / 1000, b"client-info", entry.client,
        b"entry-id", entry.entry_id, b"timestamp-created", entry.created_ms,
        b"timestamp-last-updated", entry.updated_ms,
    ])  # fmt: skip


@COMMANDS.write("ACL|LOAD", arity=2, since="6.0.0", summary="Replaces all users by those of the leader's ACL file.",
                flags="admin noscript loading stale", write_flag=False)  # fmt: skip
def acl_load(ctx: WriteContext, argv: Argv) -> Reply:
    """Logged with the file's content, see prepared(). Source: acl.c aclCommand()."""
    users: list[tuple[bytes, list[bytes]]] = []
    at = 4
    while at < len(argv):
        count = int(argv[at + 1])
        users.append((argv[at], argv[at + 2 : at + 2 + count]))
        at += 2 + count
    _accounts(ctx).replace(users)
    return OK


@COMMANDS.local("ACL|SAVE", arity=2, since="6.0.0", summary="Writes all users into this node's ACL file.",
                flags="admin noscript loading stale",
                tips="request_policy:all_nodes response_policy:all_succeeded")  # fmt: skip
def acl_save(ctx: LocalContext, argv: Argv) -> Reply:
    """Durable and all or nothing. Source: acl.c aclCommand()."""
    settings = ctx.node.settings
    if not settings.aclfile or settings.files is None:
        raise CommandError(NO_ACL_FILE)
    try:
        settings.files.replace(settings.aclfile, text_of(ctx.node.acl))
    except OSError as e:
        raise CommandError(
            f"ERR There was an error trying to save the ACLs. Please check the server logs for more information: "
            f"{settings.aclfile}: {e.strerror}"
        ) from None
    return OK


@COMMANDS.local("ACL|HELP", arity=2, since="6.0.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def acl_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("CAT [<category>]", "Categories, or the commands of one."),
        ("DELUSER <username> [<username> ...]", "Delete users and close their connections."),
        ("DRYRUN <username> <command> [<arg> ...]", "Whether a user may run a command."),
        ("GENPASS [<bits>]", "An unpredictable password."),
        ("GETUSER <username>", "One user's rules, taken apart."),
        ("LIST", "All users with their rules."),
        ("LOAD", "Replace all users by those of the leader's ACL file."),
        ("LOG [<count> | RESET]", "Refused requests and logins."),
        ("SAVE", "Write all users into this node's ACL file."),
        ("SETUSER <username> <rule> [<rule> ...]", "Create or change a user."),
        ("USERS", "Names of all users."),
        ("WHOAMI", "The user of this connection."),
    ])  # fmt: skip

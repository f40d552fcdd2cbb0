"""What the proxy answers itself: facts about the client's own connection.

Rule: nothing here asks a node or waits. Shapes and texts are Valkey's.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from durakv.resp.encoder import encode, error_line
from durakv.resp.errors import SYNTAX
from durakv.resp.types import Map, SetReply, Verbatim

if TYPE_CHECKING:
    from durakv.proxy.client import Client
    from durakv.proxy.plans import Plan

_OK = b"+OK\r\n"
_HELP = [
    b"CLIENT <subcommand>. The proxy answers for connections to itself:", b"CACHING (YES|NO)", b"CAPA <option> ...",
    b"GETNAME", b"GETREDIR", b"ID", b"INFO", b"LIST", b"NO-EVICT (ON|OFF)", b"REPLY (ON|OFF|SKIP)",
    b"SETINFO <option> <value>", b"SETNAME <name>", b"TRACKING (ON|OFF) [options]", b"TRACKINGINFO", b"HELP",
]  # fmt: skip


def answer(client: Client, plan: Plan, argv: list[bytes]) -> None:
    """Answer one request."""
    name = plan.name
    if name == "quit":
        client.answer(_OK)
        client.held.clear()
        client.stopped = True
    elif name in ("readonly", "readwrite"):
        client.readonly = name == "readonly" or client.hub.settings.read_from_replicas
        client.answer(_OK)
    elif name == "client|reply":
        _reply(client, argv[2].upper())
    elif name == "client|caching":
        _caching(client, argv[2].upper())
    elif name == "client|setname":
        _set_name(client, argv[2])
    elif name == "client|setinfo":
        _set_info(client, argv[2].upper(), argv[3])
    elif name == "client|no-evict":
        client.answer(_OK if argv[2].upper() in (b"ON", b"OFF") else error_line(SYNTAX))
    elif name == "client|capa":
        client.answer(_OK)
    else:
        client.answer(encode(_fact(client, name), client.profile.protocol))


def _fact(client: Client, name: str) -> object:
    tracking = client.tracking
    if name == "client|id":
        return client.number
    if name == "client|getname":
        return client.name or None
    if name == "client|info":
        return Verbatim(_line(client))
    if name == "client|list":
        return Verbatim(b"".join(_line(other) for other in client.hub.clients.values()))
    if name == "client|getredir":
        return -1 if tracking is None else 0
    if name == "client|trackinginfo":
        flags: list[object] = [b"off"] if tracking is None else [b"on", *(word.lower() for word in tracking.flags)]
        prefixes: list[object] = [] if tracking is None else [*tracking.prefixes]
        redirect = -1 if tracking is None else 0
        return Map([b"flags", SetReply(flags), b"redirect", redirect, b"prefixes", prefixes])
    return [*_HELP]


def _reply(client: Client, mode: bytes) -> None:
    if mode == b"ON":
        client.muted = client.skip = False
        client.answer(_OK)
    elif mode == b"OFF":
        client.muted = True
    elif mode == b"SKIP":
        client.skip = True
    else:
        client.answer(error_line(SYNTAX))


def _caching(client: Client, word: bytes) -> None:
    tracking = client.tracking
    flags = [] if tracking is None else tracking.flags
    if word not in (b"YES", b"NO"):
        client.answer(error_line(SYNTAX))
    elif tracking is None:
        client.answer(error_line("ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN "
                                 "or OPTOUT mode enabled"))  # fmt: skip
    elif (b"OPTIN" if word == b"YES" else b"OPTOUT") not in flags:
        needed = "YES is only valid when tracking is enabled in OPTIN mode." if word == b"YES" else (
            "NO is only valid when tracking is enabled in OPTOUT mode."
        )  # fmt: skip
        client.answer(error_line("ERR CLIENT CACHING " + needed))
    else:
        client.caching = word
        client.answer(_OK)


def _set_name(client: Client, name: bytes) -> None:
    if any(not 33 <= letter <= 126 for letter in name):
        client.answer(error_line("ERR Client names cannot contain spaces, newlines or special characters."))
        return
    client.name = name
    client.answer(_OK)


def _set_info(client: Client, what: bytes, value: bytes) -> None:
    if any(not 33 <= letter <= 126 for letter in value):
        shown = what.lower().decode("ascii", "replace")
        client.answer(error_line(f"ERR {shown} cannot contain spaces, newlines or special characters."))
        return
    if what == b"LIB-NAME":
        client.library = value
    elif what == b"LIB-VER":
        client.library_version = value
    else:
        client.answer(error_line(f"ERR Unrecognized option '{what.decode('utf-8', 'surrogateescape')}'"))
        return
    client.answer(_OK)


def _line(client: Client) -> bytes:
    """One line of CLIENT LIST, with the fields the proxy knows."""
    now_ns = client.hub.turn.now_ns
    user = client.profile.user or b"default"
    subscriptions = client.subscriptions
    channels, patterns, shards = ({}, {}, {}) if subscriptions is None else subscriptions.wanted
    queued = -1 if client.transaction is None else len(client.transaction.queued)
    return (
        b"id=%d addr=%b name=%b age=%d idle=%d db=%d sub=%d psub=%d ssub=%d multi=%d user=%b resp=%d lib-name=%b "
        b"lib-ver=%b tot-cmds=%d\n"
        % (
            client.number, client.address.encode(), client.name, (now_ns - client.since_ns) // 1_000_000_000,
            (now_ns - client.active_ns) // 1_000_000_000, client.profile.db, len(channels), len(patterns), len(shards),
            queued, user, client.profile.protocol, client.library, client.library_version, client.commands,
        )
    )  # fmt: skip

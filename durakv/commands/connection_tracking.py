"""CLIENT TRACKING, CACHING, GETREDIR and TRACKINGINFO: what a client asks of server-assisted caching.

Rule: checks options and nothing more; who is told of what is engine/tracking.py's. Source: networking.c, tracking.c.
"""

from __future__ import annotations

from typing import Final

from durakv.commands.context import LocalContext
from durakv.commands.local_text import integer, text
from durakv.commands.session import Tracked
from durakv.commands.spec import Argv, Commands
from durakv.resp.errors import SYNTAX, CommandError
from durakv.resp.types import OK, Map, Reply, SetReply

COMMANDS: Final[Commands] = Commands("connection")

_OTHER_MODE: Final = "before disabling tracking for this client, and then re-enabling it with a different mode."
_NO_CACHING: Final = (
    "ERR CLIENT CACHING can be called only when the client is in tracking mode with OPTIN or OPTOUT mode enabled"
)


@COMMANDS.local("CLIENT|TRACKING", arity=-3, since="6.0.0",
                summary="Whether the connection is told of changes to keys it has read.",
                flags="noscript loading stale")  # fmt: skip
def client_tracking(ctx: LocalContext, argv: Argv) -> Reply:
    """CLIENT TRACKING ON|OFF [REDIRECT id] [PREFIX p]... [BCAST] [OPTIN] [OPTOUT] [NOLOOP]."""
    state = Tracked()
    prefixes = _read_options(ctx, argv, state)
    word = argv[2].upper()
    if word == b"ON":
        _check(state, prefixes, ctx.session.tracking)
        state.prefixes = dict.fromkeys(prefixes)
        ctx.node.tracking.enable(ctx.session, state)
    elif word == b"OFF":
        ctx.node.tracking.disable(ctx.session)
    else:
        raise CommandError(SYNTAX)
    return OK


def _read_options(ctx: LocalContext, argv: Argv, state: Tracked) -> list[bytes]:
    """Fill ``state``; the prefixes as given. Raises CommandError."""
    prefixes: list[bytes] = []
    at = 3
    while at < len(argv):
        option = argv[at].upper()
        more = at + 1 < len(argv)
        if option == b"REDIRECT" and more:
            at += 1
            if state.redirect:
                raise CommandError("ERR A client can only redirect to a single other client")
            state.redirect = integer(argv[at])
            if state.redirect not in ctx.node.clients:
                raise CommandError("ERR The client ID you want redirect to does not exist")
        elif option == b"PREFIX" and more:
            at += 1
            prefixes.append(argv[at])
        elif option == b"BCAST":
            state.bcast = True
        elif option == b"OPTIN":
            state.optin = True
        elif option == b"OPTOUT":
            state.optout = True
        elif option == b"NOLOOP":
            state.noloop = True
        else:
            raise CommandError(SYNTAX)
        at += 1
    return prefixes


def _check(state: Tracked, prefixes: list[bytes], former: Tracked | None) -> None:
    """Raise CommandError where the options contradict each other or what is on already."""
    if prefixes and not state.bcast:
        raise CommandError("ERR PREFIX option requires BCAST mode to be enabled")
    if former is not None and former.bcast != state.bcast:
        raise CommandError("ERR You can't switch BCAST mode on/off " + _OTHER_MODE)
    if state.bcast and (state.optin or state.optout):
        raise CommandError("ERR OPTIN and OPTOUT are not compatible with BCAST")
    if state.optin and state.optout:
        raise CommandError("ERR You can't specify both OPTIN mode and OPTOUT mode")
    if former is not None and ((state.optin and former.optout) or (state.optout and former.optin)):
        raise CommandError("ERR You can't switch OPTIN/OPTOUT mode " + _OTHER_MODE)
    for at, prefix in enumerate(prefixes):
        for held in sorted(former.prefixes) if former is not None else ():
            if _overlap(prefix, held):
                raise CommandError(
                    f"ERR Prefix '{text(prefix)}' overlaps with an existing prefix '{text(held)}'. "
                    "Prefixes for a single client must not overlap."
                )
        for other in prefixes[at + 1 :]:
            if _overlap(prefix, other):
                raise CommandError(
                    f"ERR Prefix '{text(prefix)}' overlaps with another provided prefix '{text(other)}'. "
                    "Prefixes for a single client must not overlap."
                )


def _overlap(a: bytes, b: bytes) -> bool:
    return a.startswith(b) or b.startswith(a)


@COMMANDS.local("CLIENT|CACHING", arity=3, since="6.0.0",
                summary="Whether keys of the next command are tracked; needs tracking.",
                flags="allow_busy noscript loading stale")  # fmt: skip
def client_caching(ctx: LocalContext, argv: Argv) -> Reply:
    """YES in OPTIN mode, NO in OPTOUT mode."""
    state = ctx.session.tracking
    if state is None:
        raise CommandError(_NO_CACHING)
    word = argv[2].upper()
    if word == b"YES":
        if not state.optin:
            raise CommandError("ERR CLIENT CACHING YES is only valid when tracking is enabled in OPTIN mode.")
    elif word == b"NO":
        if not state.optout:
            raise CommandError("ERR CLIENT CACHING NO is only valid when tracking is enabled in OPTOUT mode.")
    else:
        raise CommandError(SYNTAX)
    state.caching = True
    return OK


@COMMANDS.local("CLIENT|GETREDIR", arity=2, since="6.0.0",
                summary="The client that receives invalidations; -1 while tracking is off.",
                flags="allow_busy noscript loading stale")  # fmt: skip
def client_getredir(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: a client id, 0 without redirection, -1 without tracking."""
    state = ctx.session.tracking
    return -1 if state is None else state.redirect


@COMMANDS.local("CLIENT|TRACKINGINFO", arity=2, since="6.2.0",
                summary="The state of client-side caching of this connection.",
                flags="noscript loading stale")  # fmt: skip
def client_trackinginfo(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: map of flags, redirect, prefixes."""
    state = ctx.session.tracking
    if state is None:
        return Map([b"flags", SetReply([b"off"]), b"redirect", -1, b"prefixes", []])
    flags: list[Reply] = [b"on"]
    for on, name in (
        (state.bcast, b"bcast"), (state.optin, b"optin"), (state.optin and state.caching, b"caching-yes"),
        (state.optout, b"optout"), (state.optout and state.caching, b"caching-no"), (state.noloop, b"noloop"),
        (state.broken, b"broken_redirect"),
    ):  # fmt: skip
        if on:
            flags.append(name)
    prefixes: list[Reply] = [*sorted(state.prefixes)]
    return Map([b"flags", SetReply(flags), b"redirect", state.redirect, b"prefixes", prefixes])

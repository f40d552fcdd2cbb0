"""SUBSCRIBE and PUBLISH in their three kinds: channels, patterns, shard channels.

Rule: confirmations are the handler's reply, so that request order holds and EXEC can give them their place; messages
are pushes written by engine/pubsub.py.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from durakv.commands.context import LocalContext
from durakv.commands.local_text import bad_subcommand, help_reply
from durakv.commands.spec import Argv, Commands
from durakv.keyspace.slots import slot_of
from durakv.resp.encoder import encode
from durakv.resp.errors import CROSSSLOT, CommandError
from durakv.resp.types import NO_REPLY, Push, Pushes, Reply

COMMANDS: Final[Commands] = Commands("pubsub")


def _confirm(ctx: LocalContext, names: list[bytes], one: Callable[[bytes], Push]) -> Reply:
    """Change one subscription after the other and confirm each."""
    return _sent(ctx, Pushes([one(name) for name in names]))


def _serve(ctx: LocalContext, channels: list[bytes]) -> None:
    """Judge shard channels by their slot. Raises CommandError CROSSSLOT, MOVED. Source: cluster.c getNodeByQuery()."""
    node = ctx.node
    if not node.settings.cluster_enabled or not channels:
        return
    slot = slot_of(channels[0])
    for channel in channels[1:]:
        if slot_of(channel) != slot:
            raise CommandError(CROSSSLOT)
    # On any node of the group, and of a slot that is on its way too: who listens is told when it has gone.
    if not node.moving.handoff.claims(slot):
        raise CommandError(node.not_served(slot))


def _sent(ctx: LocalContext, reply: Reply) -> Reply:
    """CLIENT REPLY OFF and SKIP silence replies, not pushes. Source: pubsub.c addReplyPubsubSubscribed()."""
    s = ctx.session
    if s.reply_mode == b"on":
        return reply
    s.write(encode(reply, s.protocol))
    ctx.node.pubsub.wake(s)
    if s.reply_mode == b"skip" and not ctx.node.in_transaction:
        s.reply_mode = b"on"
    return NO_REPLY


@COMMANDS.local("SUBSCRIBE", arity=-2, since="2.0.0", summary="Listens to channels.",
                flags="pubsub noscript loading stale")  # fmt: skip
def subscribe(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: pubsub.c subscribeCommand()."""
    s = ctx.session
    return _confirm(ctx, argv[1:], lambda name: ctx.node.pubsub.subscribe(s, name))


@COMMANDS.local("UNSUBSCRIBE", arity=-1, since="2.0.0",
                summary="Stops listening to channels, to all without names.",
                flags="pubsub noscript loading stale")  # fmt: skip
def unsubscribe(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: pubsub.c unsubscribeCommand()."""
    s = ctx.session
    names = argv[1:] or list(s.channels)
    if not names:
        return _sent(ctx, ctx.node.pubsub.unsubscribe(s, None))
    return _confirm(ctx, names, lambda name: ctx.node.pubsub.unsubscribe(s, name))


@COMMANDS.local("PSUBSCRIBE", arity=-2, since="2.0.0",
                summary="Listens to channels that match glob patterns.",
                flags="pubsub noscript loading stale")  # fmt: skip
def psubscribe(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: pubsub.c psubscribeCommand()."""
    s = ctx.session
    return _confirm(ctx, argv[1:], lambda name: ctx.node.pubsub.psubscribe(s, name))


@COMMANDS.local("PUNSUBSCRIBE", arity=-1, since="2.0.0",
                summary="Stops listening to patterns, to all without names.",
                flags="pubsub noscript loading stale")  # fmt: skip
def punsubscribe(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: pubsub.c punsubscribeCommand()."""
    s = ctx.session
    names = argv[1:] or list(s.patterns)
    if not names:
        return _sent(ctx, ctx.node.pubsub.punsubscribe(s, None))
    return _confirm(ctx, names, lambda name: ctx.node.pubsub.punsubscribe(s, name))


@COMMANDS.local("SSUBSCRIBE", arity=-2, since="7.0.0", summary="Listens to shard channels.",
                flags="pubsub noscript loading stale", keys="NOT_KEY@i1+r-1/1/0")  # fmt: skip
def ssubscribe(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: pubsub.c ssubscribeCommand()."""
    s = ctx.session
    if ctx.node.in_transaction:
        raise CommandError("ERR SSUBSCRIBE isn't allowed for a DENY BLOCKING client")
    _serve(ctx, argv[1:])
    return _confirm(ctx, argv[1:], lambda name: ctx.node.pubsub.ssubscribe(s, name))


@COMMANDS.local("SUNSUBSCRIBE", arity=-1, since="7.0.0",
                summary="Stops listening to shard channels, to all without names.",
                flags="pubsub noscript loading stale", keys="NOT_KEY@i1+r-1/1/0")  # fmt: skip
def sunsubscribe(ctx: LocalContext, argv: Argv) -> Reply:
    """Source: pubsub.c sunsubscribeCommand()."""
    s = ctx.session
    _serve(ctx, argv[1:])
    names = argv[1:] or list(s.shard_channels)
    if not names:
        return _sent(ctx, ctx.node.pubsub.sunsubscribe(s, None))
    return _confirm(ctx, names, lambda name: ctx.node.pubsub.sunsubscribe(s, name))


@COMMANDS.local("PUBLISH", arity=3, since="2.0.0",
                summary="Sends a message to everybody who listens to a channel, on any node.",
                flags="pubsub loading stale fast may_replicate")  # fmt: skip
def publish(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: how many clients of this node received it. Source: pubsub.c publishCommand()."""
    ctx.node.stats.pubsub_messages += 1
    return ctx.node.pubsub.publish(argv[1], argv[2], ctx.session)


@COMMANDS.local("SPUBLISH", arity=3, since="7.0.0",
                summary="Sends a message to everybody who listens to a shard channel.",
                flags="pubsub loading stale fast may_replicate", keys="NOT_KEY@i1+r0/1/0")  # fmt: skip
def spublish(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: how many clients of this node received it. Source: pubsub.c spublishCommand()."""
    _serve(ctx, argv[1:2])
    ctx.node.stats.pubsub_messages += 1
    return ctx.node.pubsub.spublish(argv[1], argv[2], ctx.session)


# -- PUBSUB ----------------------------------------------------------------------------------------------------------


@COMMANDS.local("PUBSUB|CHANNELS", arity=-2, since="2.8.0",
                summary="Channels with subscribers on this node.", flags="pubsub loading stale")  # fmt: skip
def pubsub_channels(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array. Source: pubsub.c pubsubCommand()."""
    return list(ctx.node.pubsub.active(_pattern(argv), shard=False))


@COMMANDS.local("PUBSUB|SHARDCHANNELS", arity=-2, since="7.0.0",
                summary="Shard channels with subscribers on this node.", flags="pubsub loading stale")  # fmt: skip
def pubsub_shardchannels(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array."""
    return list(ctx.node.pubsub.active(_pattern(argv), shard=True))


def _pattern(argv: Argv) -> bytes | None:
    if len(argv) > 3:
        raise bad_subcommand(argv)
    return argv[2] if len(argv) == 3 else None


@COMMANDS.local("PUBSUB|NUMSUB", arity=-2, since="2.8.0", summary="Subscribers of channels on this node.",
                flags="pubsub loading stale")  # fmt: skip
def pubsub_numsub(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: flat array of channel and count."""
    return _counts(ctx, argv[2:], shard=False)


@COMMANDS.local("PUBSUB|SHARDNUMSUB", arity=-2, since="7.0.0",
                summary="Subscribers of shard channels on this node.", flags="pubsub loading stale")  # fmt: skip
def pubsub_shardnumsub(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: flat array of channel and count."""
    return _counts(ctx, argv[2:], shard=True)


def _counts(ctx: LocalContext, names: list[bytes], *, shard: bool) -> Reply:
    flat: list[Reply] = []
    for name in names:
        flat.append(name)
        flat.append(ctx.node.pubsub.count(name, shard=shard))
    return flat


@COMMANDS.local("PUBSUB|NUMPAT", arity=2, since="2.8.0",
                summary="How many different patterns are listened to on this node.",
                flags="pubsub loading stale")  # fmt: skip
def pubsub_numpat(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: integer."""
    return len(ctx.node.pubsub.patterns)


@COMMANDS.local("PUBSUB|HELP", arity=2, since="6.2.0", summary="Lists the subcommands.",
                flags="loading stale")  # fmt: skip
def pubsub_help(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: array of simple strings."""
    return help_reply(argv, [
        ("CHANNELS [<pattern>]", "Channels with subscribers, optionally those that match."),
        ("NUMPAT", "Number of different patterns listened to."),
        ("NUMSUB [<channel> ...]", "Subscribers of each channel, patterns not counted."),
        ("SHARDCHANNELS [<pattern>]", "Shard channels with subscribers."),
        ("SHARDNUMSUB [<channel> ...]", "Subscribers of each shard channel."),
    ])  # fmt: skip

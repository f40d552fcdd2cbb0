"""Bad input from good, and what may never be sent.

Rule: the only place that decides whether a command is safe to compare: none waits, none lasts, none depends on chance
or on the moment, none asks for more memory than a test may take.
"""

from __future__ import annotations

from random import Random

from tests.commands.campaign.grammar import Words
from tests.commands.campaign.vocabulary import ODD

# Relative moments: what they count must not pass while a program runs.
_RELATIVE = {b"EXPIRE": 2, b"PEXPIRE": 2, b"SETEX": 2, b"PSETEX": 2, b"RESTORE": 2}
_RELATIVE_LONG = frozenset((b"20000000", b"30000000", b"20000000000", b"30000000000"))
_BLOCKING = frozenset(
    (b"BLPOP", b"BRPOP", b"BRPOPLPUSH", b"BLMOVE", b"BLMPOP", b"BZPOPMIN", b"BZPOPMAX", b"BZMPOP", b"WAIT", b"WAITAOF")
)
_NEVER = frozenset(
    (b"QUIT", b"SHUTDOWN", b"MONITOR", b"SYNC", b"PSYNC", b"DEBUG", b"CLIENT", b"CONFIG", b"HELLO", b"RESET", b"AUTH",
     b"FAILOVER", b"REPLICAOF", b"SLAVEOF", b"MIGRATE", b"ACL", b"INFO", b"TIME", b"LOLWUT", b"ROLE")
)  # fmt: skip
_EVAL = frozenset((b"EVAL", b"EVAL_RO", b"EVALSHA", b"EVALSHA_RO", b"FCALL", b"FCALL_RO"))
# The fourth argument is how long an entry must have been idle.
_IDLE = frozenset((b"XCLAIM", b"XAUTOCLAIM", b"XPENDING"))
_LONGEST = 100_000


def mutated(words: Words, dice: Random) -> Words:
    """The command with something wrong in it."""
    out = list(words)
    for _ in range(dice.choice((1, 1, 1, 2))):
        roll = dice.random()
        at = dice.randrange(1, len(out)) if len(out) > 1 else 0
        if roll < 0.2 and at:
            del out[at]
        elif roll < 0.4:
            out.insert(max(1, at), dice.choice(ODD).encode())
        elif roll < 0.75 and at:
            out[at] = dice.choice(ODD).encode()
        elif roll < 0.85 and at:
            out.insert(at, out[at])
        elif roll < 0.95 and len(out) > 2:
            other = dice.randrange(1, len(out))
            out[at], out[other] = out[other], out[at]
        else:
            del out[dice.randrange(1, len(out) + 1) :]
    return out


def recased(words: Words, dice: Random) -> Words:
    """The same words, some in another case."""
    return [words[0].lower(), *(word.lower() if dice.random() < 0.5 else word for word in words[1:])]


def safe(words: Words) -> bool:
    """Whether two servers can be compared on it, see above. Blocking commands are so only as their templates are."""
    name = words[0].upper()
    if name in _NEVER or name in _BLOCKING:
        return False
    if name in _EVAL:
        return b"STREAMS" not in [word.upper() for word in words] or b"BLOCK" not in words
    upper = [word.upper() for word in words]
    if name == b"COMMAND" and b"GETKEYS" not in upper[1:2]:
        return False
    if name in (b"XREAD", b"XREADGROUP") and b"BLOCK" in upper:
        return False
    if name in (b"SET", b"GETEX", b"HSETEX", b"HGETEX"):
        at = [n for n, word in enumerate(upper) if word in (b"EX", b"PX")]
        if any(_soon(words[n + 1]) for n in at if n + 1 < len(words)):
            return False
    if name in _RELATIVE and len(words) > 2 and _soon(words[_RELATIVE[name]]):
        return False
    if name in (b"EXPIRE", b"PEXPIRE") and (b"GT" in upper or b"LT" in upper) and _RELATIVE_LONG.intersection(words):
        # The later of two equal spans ends later, but for those of one millisecond.
        return False
    if name in (b"SETBIT", b"BITFIELD") and any(_vast(word) for word in words[2:]):
        return False
    if name.endswith(b"SCAN") and any(len(word) > 18 for word in words):
        # Upstream's SORT takes the overflow of such a cursor for its own.
        return False
    if name == b"LSET" and any(len(word) > 9 for word in words[2:3]):
        # Upstream takes the index as an int of 32 bits.
        return False
    if name == b"XADD" and b"*" in words[2:]:
        return False
    if name in _IDLE and len(words) > 4 and _soon(words[4]) and (name != b"XPENDING" or upper[3] == b"IDLE"):
        # Whether an entry has been idle for a millisecond is chance.
        return False
    if name == b"XGROUP" and b"HELP" in upper:
        return False
    if name == b"SPOP" and not (len(words) == 3 and words[2] in (b"0", b"100000", b"x", b"", b"-1", b"1.5")):
        return len(words) != 2 and len(words) != 3
    return not (name in (b"SRANDMEMBER", b"HRANDFIELD", b"ZRANDMEMBER") and any(_much(word) for word in words[2:]))


def _soon(word: bytes) -> bool:
    """Whether it is a span that may end while servers are compared."""
    try:
        return 0 < int(word) < 10_000_000
    except ValueError:
        return False


def _vast(word: bytes) -> bool:
    """Whether it is a bit offset that makes a string of many megabytes."""
    try:
        return 10_000_000 < int(word.removeprefix(b"#")) < 2**32
    except ValueError:
        return False


def _much(word: bytes) -> bool:
    try:
        return -(2**62) < int(word) < -_LONGEST // 100
    except ValueError:
        return False

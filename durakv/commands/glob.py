"""Glob patterns as KEYS, SCAN MATCH, PSUBSCRIBE and ACL rules use them. [compiled]

Rule: the only glob matcher. It agrees with Valkey's util.c stringmatchlen() byte for byte, odd corners included:
only the empty pattern matches an empty text, an unclosed class ends with the pattern, ranges compare signed bytes,
and a pattern with more than a thousand stars to try matches nothing.
"""

from __future__ import annotations

from typing import Final

_STAR: Final = 42
_QUESTION: Final = 63
_OPEN: Final = 91
_CLOSE: Final = 93
_CARET: Final = 94
_ESCAPE: Final = 92
_DASH: Final = 45
_STARS_MAX: Final = 1000


def is_literal(pattern: bytes) -> bool:
    """Whether ``pattern`` matches only itself, so that a lookup can replace a scan."""
    return not (b"*" in pattern or b"?" in pattern or b"[" in pattern or b"\\" in pattern)


def glob_match(pattern: bytes, text: bytes, nocase: bool = False) -> bool:
    """Whether ``text`` as a whole matches ``pattern``. O(len(pattern) * len(text)) at worst, without recursion."""
    plen = len(pattern)
    tlen = len(text)
    if tlen == 0:
        return plen == 0
    p = 0
    t = 0
    stars = 0
    # Where to resume when what follows the last star does not match: one byte further. Earlier stars never need to
    # be revisited, because the last one already matches any remainder they could have left.
    star = -1
    resume = 0
    while True:
        if p < plen and pattern[p] == _STAR:
            while p < plen and pattern[p] == _STAR:
                p += 1
            if p == plen:
                return True
            if t < tlen:
                stars += 1
                if stars > _STARS_MAX:
                    return False
            star = p
            resume = t
        if t >= tlen:
            return p >= plen
        after = -1
        if p < plen:
            c = pattern[p]
            if c == _OPEN:
                after = _class_end(pattern, p, text[t], nocase)
            elif c == _QUESTION:
                after = p + 1
            else:
                if c == _ESCAPE and p + 1 < plen:
                    p += 1
                    c = pattern[p]
                if c == text[t] or (nocase and _lower(c) == _lower(text[t])):
                    after = p + 1
        if after >= 0:
            p = after
            t += 1
            continue
        if star < 0:
            return False
        resume += 1
        p = star
        t = resume


def _lower(byte: int) -> int:
    return byte + 32 if 65 <= byte <= 90 else byte


def _signed(byte: int) -> int:
    return byte - 256 if byte > 127 else byte


def _class_end(pattern: bytes, p: int, byte: int, nocase: bool) -> int:
    """The index behind the class opening at ``p`` when it contains ``byte``, else -1."""
    plen = len(pattern)
    p += 1
    negated = p < plen and pattern[p] == _CARET
    if negated:
        p += 1
    found = False
    while p < plen:
        c = pattern[p]
        if c == _ESCAPE and p + 1 < plen:
            p += 1
            # Escaped members compare exactly even without regard to case, as upstream.
            if pattern[p] == byte:
                found = True
        elif c == _CLOSE:
            break
        elif p + 2 < plen and pattern[p + 1] == _DASH:
            low = _signed(c)
            high = _signed(pattern[p + 2])
            at = _signed(byte)
            if low > high:
                low, high = high, low
            if nocase:
                low, high, at = _lower(low), _lower(high), _lower(at)
            p += 2
            if low <= at <= high:
                found = True
        elif c == byte or (nocase and _lower(c) == _lower(byte)):
            found = True
        p += 1
    after = p + 1 if p < plen else plen
    return after if found != negated else -1

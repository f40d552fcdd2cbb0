"""Reply values to the bytes of RESP2 or RESP3. [compiled]

Rule: the only place that knows how a reply looks on the wire. It keeps no state and knows neither sessions nor
commands; a value that is not a reply is a bug of the handler and raises TypeError.
"""

from __future__ import annotations

import math
from typing import Final

from durakv.resp.errors import CommandError, ProtocolError
from durakv.resp.types import (
    BigNumber,
    Encoded,
    ErrorReply,
    HumanDouble,
    KeyedPairs,
    Map,
    NullArray,
    Pairs,
    Push,
    Pushes,
    SetReply,
    Simple,
    Verbatim,
)

_CRLF: Final = b"\r\n"
_NULL2: Final = b"$-1\r\n"
_NULL3: Final = b"_\r\n"
# Headers and numbers that occur all the time; 1024 of each cost 150 KB once.
_CACHED: Final = 1024
_BULK: Final[list[bytes]] = [b"$%d\r\n" % n for n in range(_CACHED)]
# A header with the end of the string before it.
_NEXT: Final[list[bytes]] = [b"\r\n$%d\r\n" % n for n in range(_CACHED)]
_ARRAY: Final[list[bytes]] = [b"*%d\r\n" % n for n in range(_CACHED)]
_INTEGER: Final[list[bytes]] = [b":%d\r\n" % n for n in range(_CACHED)]

# Above this a double is never shown as a 64-bit integer (valkey util.c double2ll()).
_DOUBLE_AS_INT_MAX: Final = 4611686018427387904.0
_FORMAT_LEN: Final = 3


def encode(reply: object, protocol: int) -> bytes:
    """The wire form of one reply; ``protocol`` is 2 or 3. Raises TypeError for what is not in resp/types.py."""
    if isinstance(reply, bytes):
        n = len(reply)
        if n < _CACHED:
            return _BULK[n] + reply + _CRLF
        # Two additions would copy it twice.
        return b"".join((b"$%d\r\n" % n, reply, _CRLF))
    if reply is None:
        return _NULL3 if protocol == 3 else _NULL2
    if isinstance(reply, Simple):
        return reply.wire
    if isinstance(reply, int):
        if isinstance(reply, bool):
            return _boolean(reply, protocol)
        return _INTEGER[reply] if 0 <= reply < _CACHED else b":%d\r\n" % reply
    parts: list[bytes] = []
    if type(reply) is list:
        n = len(reply)
        parts.append(_ARRAY[n] if n < _CACHED else b"*%d\r\n" % n)
        _append_items(parts, reply, protocol)
        return b"".join(parts)
    if isinstance(reply, CommandError):
        return error_line(reply.text)
    if isinstance(reply, Encoded):
        return reply.wire
    _append(parts, reply, protocol)
    return b"".join(parts)


def error_line(text: str) -> bytes:
    """``-text`` as one line: line breaks become spaces, surrogate escapes the bytes they stand for."""
    if "\r" in text or "\n" in text:
        text = text.rstrip("\r\n").replace("\r", " ").replace("\n", " ")
    return b"-" + text.encode("utf-8", "surrogateescape") + _CRLF


def protocol_error_line(error: ProtocolError) -> bytes:
    """What a client is told before its link closes."""
    return error_line("ERR Protocol error: " + error.text)


def format_double(x: float) -> bytes:
    """A double as Valkey 9 writes it: whole numbers without fraction, else the shortest digits that read back equal.

    Layout by valkey's fpconv emit_digits(): plain up to seven zeros of padding, scientific beyond.
    """
    if math.isnan(x):
        return b"nan"
    if -_DOUBLE_AS_INT_MAX <= x <= _DOUBLE_AS_INT_MAX:
        whole = int(x)
        if whole == x:
            if whole == 0:
                # Negative zero keeps its sign.
                return b"-0" if str(x).startswith("-") else b"0"
            return b"%d" % whole
    elif math.isinf(x):
        return b"inf" if x > 0 else b"-inf"
    return shortest_double(x)


def shortest_double(x: float) -> bytes:
    """The shortest digits that read back equal, laid out as valkey's fpconv_dtoa() does."""
    if x == 0 or math.isinf(x):
        sign_only = "-" if str(x).startswith("-") else ""
        return (sign_only + ("0" if x == 0 else "inf")).encode("ascii")
    # repr() yields the shortest digits; only its layout differs.
    text = repr(x)
    sign = ""
    if text.startswith("-"):
        sign = "-"
        text = text[1:]
    mantissa, _, power_text = text.partition("e")
    integer_part, _, fraction = mantissa.partition(".")
    power = int(power_text) if power_text else 0
    if fraction == "0":
        fraction = ""
    digits = (integer_part + fraction).lstrip("0")
    power -= len(fraction)
    stripped = digits.rstrip("0")
    power += len(digits) - len(stripped)
    return (sign + _layout(stripped, power)).encode("ascii")


def _layout(digits: str, power: int) -> str:
    """``digits`` x 10^``power``, digits without zeros at either end."""
    n = len(digits)
    exponent = power + n - 1
    size = abs(exponent)
    if power >= 0 and size < n + 7:
        return digits + "0" * power
    if power < 0 and (power > -7 or size < 4):
        point = n + power
        if point <= 0:
            return "0." + "0" * -point + digits
        return digits[:point] + "." + digits[point:]
    tail = "." + digits[1:] if n > 1 else ""
    return digits[0] + tail + "e" + ("-" if exponent < 0 else "+") + str(size)


def _boolean(value: bool, protocol: int) -> bytes:
    if protocol == 3:
        return b"#t\r\n" if value else b"#f\r\n"
    return b":1\r\n" if value else b":0\r\n"


def _append(parts: list[bytes], reply: object, protocol: int) -> None:
    """Append the wire form of any reply, aggregates included."""
    if isinstance(reply, bytes):
        n = len(reply)
        parts.append(_BULK[n] if n < _CACHED else b"$%d\r\n" % n)
        parts.append(reply)
        parts.append(_CRLF)
    elif type(reply) is Simple:
        parts.append(reply.wire)
    elif isinstance(reply, list):
        n = len(reply)
        parts.append(_ARRAY[n] if n < _CACHED else b"*%d\r\n" % n)
        _append_items(parts, reply, protocol)
    elif isinstance(reply, tuple):
        _append(parts, list(reply), protocol)
    elif isinstance(reply, float):
        text = format_double(reply)
        parts.append(b",%b\r\n" % text if protocol == 3 else b"$%d\r\n%b\r\n" % (len(text), text))
    elif isinstance(reply, bytearray):
        parts.append(b"$%d\r\n" % len(reply))
        parts.append(bytes(reply))
        parts.append(_CRLF)
    elif isinstance(reply, Map):
        _append_flat(parts, reply.flat, b"%%%d\r\n" % _halves(reply.flat) if protocol == 3 else b"", protocol)
    elif isinstance(reply, SetReply):
        _append_flat(parts, reply.items, b"~%d\r\n" % len(reply.items) if protocol == 3 else b"", protocol)
    elif isinstance(reply, Push):
        _append_flat(parts, reply.items, b">%d\r\n" % len(reply.items) if protocol == 3 else b"", protocol)
    elif isinstance(reply, Pushes):
        for push in reply.pushes:
            _append(parts, push, protocol)
    elif isinstance(reply, Pairs):
        if protocol == 3:
            _append_pairs(parts, reply.flat, protocol)
        else:
            _halves(reply.flat)
            _append_flat(parts, reply.flat, b"", protocol)
    elif isinstance(reply, KeyedPairs):
        if protocol == 3:
            _append_flat(parts, reply.flat, b"%%%d\r\n" % _halves(reply.flat), protocol)
        else:
            _append_pairs(parts, reply.flat, protocol)
    elif isinstance(reply, Verbatim):
        _append_verbatim(parts, reply, protocol)
    elif isinstance(reply, NullArray):
        parts.append(_NULL3 if protocol == 3 else b"*-1\r\n")
    elif isinstance(reply, ErrorReply):
        parts.append(error_line(reply.text))
    elif isinstance(reply, HumanDouble):
        shown = reply.text
        parts.append(b",%b\r\n" % shown if protocol == 3 else b"$%d\r\n%b\r\n" % (len(shown), shown))
    elif isinstance(reply, BigNumber):
        digits = reply.digits
        parts.append(b"(%b\r\n" % digits if protocol == 3 else b"$%d\r\n%b\r\n" % (len(digits), digits))
    elif reply is None or isinstance(reply, (int, Simple, CommandError, Encoded)):
        parts.append(encode(reply, protocol))
    else:
        raise TypeError(
            f"{type(reply).__name__} is not a reply; return a value listed in durakv/resp/types.py (text as bytes)"
        )


def _append_flat(parts: list[bytes], items: list[object], header: bytes, protocol: int) -> None:
    """``header`` empty means a plain array."""
    parts.append(header or b"*%d\r\n" % len(items))
    _append_items(parts, items, protocol)


def _append_items(parts: list[bytes], items: list[object], protocol: int) -> None:
    """One after the other; strings in a row share the pieces between them."""
    in_string = False
    for item in items:
        if type(item) is bytes:
            n = len(item)
            if in_string:
                parts.append(_NEXT[n] if n < _CACHED else b"\r\n$%d\r\n" % n)
            else:
                parts.append(_BULK[n] if n < _CACHED else b"$%d\r\n" % n)
            parts.append(item)
            in_string = True
            continue
        if in_string:
            parts.append(_CRLF)
            in_string = False
        _append(parts, item, protocol)
    if in_string:
        parts.append(_CRLF)


def _append_pairs(parts: list[bytes], flat: list[object], protocol: int) -> None:
    count = _halves(flat)
    parts.append(b"*%d\r\n" % count)
    for i in range(count):
        parts.append(b"*2\r\n")
        _append(parts, flat[2 * i], protocol)
        _append(parts, flat[2 * i + 1], protocol)


def _append_verbatim(parts: list[bytes], reply: Verbatim, protocol: int) -> None:
    if len(reply.format) != _FORMAT_LEN:
        raise TypeError(f"a verbatim reply's format has three letters, not {reply.format!r}")
    if protocol == 3:
        parts.append(b"=%d\r\n%b:" % (len(reply.text) + 4, reply.format))
    else:
        parts.append(b"$%d\r\n" % len(reply.text))
    parts.append(reply.text)
    parts.append(_CRLF)


def _halves(flat: list[object]) -> int:
    """The number of pairs in a flat list. Raises TypeError when one is incomplete."""
    if len(flat) % 2:
        raise TypeError(f"a map or pairs reply needs an even number of items, not {len(flat)}")
    return len(flat) // 2

"""How large an element is in a listpack, and which bytes read as a 64-bit integer. [compiled]

Values are not stored as listpacks here; clients see only the encoding's name, and this module is the only place that
computes when it must change. Source: listpack.c lpEncodeGetType(), lpEncodeBacklen(); util.c string2ll().
"""

from __future__ import annotations

from typing import Final

# Header and end marker of a listpack.
LISTPACK_OVERHEAD: Final = 7
_INT64_MIN: Final = -(1 << 63)
_INT64_MAX: Final = (1 << 63) - 1
# "-9223372036854775808"
_INT64_DIGITS_MAX: Final = 20


def is_integer(text: bytes) -> bool:
    """Whether ``text`` is the one way to write a signed 64-bit integer: no sign of plus, blanks or leading zeros."""
    n = len(text)
    if n == 0 or n > _INT64_DIGITS_MAX:
        return False
    first = text[0]
    if first == 0x2D:
        if n == 1 or not text[1:].isdigit() or text[1] == 0x30:
            return False
    elif first == 0x30:
        return n == 1
    elif first > 0x39 or not text.isdigit():
        return False
    # Nineteen characters hold every number up to 10^18 and are always in range.
    return n < 19 or _INT64_MIN <= int(text) <= _INT64_MAX


def packed_size(element: bytes) -> int:
    """Bytes ``element`` takes as a listpack entry, its back length included."""
    n = len(element)
    if n <= _INT64_DIGITS_MAX and n and element[0] <= 0x39 and is_integer(element):
        return _integer_size(int(element))
    if n < 64:
        size = n + 1
    elif n < 4096:
        size = n + 2
    else:
        size = n + 5
    if size <= 127:
        return size + 1
    if size < 16383:
        return size + 2
    if size < 2097151:
        return size + 3
    return size + 4 if size < 268435455 else size + 5


def packed_total(elements: list[bytes]) -> int:
    """Sum of packed_size() over ``elements``."""
    total = 0
    for element in elements:
        total += packed_size(element)
    return total


def netstring(text: bytes) -> bytes:
    """``<length>:<bytes>``, the unit of every canonical form."""
    return b"%d:%b" % (len(text), text)


def _integer_size(number: int) -> int:
    if 0 <= number <= 127:
        return 2
    if -4096 <= number <= 4095:
        return 3
    if -32768 <= number <= 32767:
        return 4
    if -8388608 <= number <= 8388607:
        return 5
    if -2147483648 <= number <= 2147483647:
        return 6
    return 10

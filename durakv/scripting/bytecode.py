"""Lua 5.1 bytecode with every tail call turned into a call, so that errors can name the line of the caller.

``return redis.call(...)`` is a tail call. To stock Redis it is one into C, which keeps the caller's frame; here the
function is Lua, which replaces it, and the error would have no line. The operands of both instructions are the same and
the compiler puts a RETURN behind a tail call, so only the opcode changes. The price is that a chain of tail calls grows
the stack, which ends at 20000.
Rule: reads only what this process's own compiler has just written; scripts can load no bytecode.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

_HEADER_SIZE: Final = 12
_INT: Final = Struct("<i")
_SIZE: Final = Struct("<Q")
_OP_MASK: Final = 0x3F
_CALL: Final = 28
_TAILCALL: Final = 29
_SETLIST: Final = 34
_C_SHIFT: Final = 14
_C_MASK: Final = 0x1FF
_CONSTANT_SIZES: Final = {0: 0, 1: 1, 3: 8}
_STRING: Final = 4
# Little-endian, 4-byte int, 8-byte size_t, 4-byte instructions, 8-byte floating-point numbers.
_EXPECTED: Final = b"\x1bLua\x51\x00\x01\x04\x08\x04\x08\x00"


class BytecodeError(Exception):
    """The compiler writes another format than this module knows."""


def without_tail_calls(code: bytes) -> bytes | None:
    """The same chunk without tail calls; None when it has none. Raises BytecodeError."""
    if code[:_HEADER_SIZE] != _EXPECTED:
        raise BytecodeError(f"bytecode starts with {code[:_HEADER_SIZE].hex()}; durakv knows 64-bit little-endian")
    chunk = _Chunk(code)
    chunk.function()
    return bytes(chunk.out) if chunk.changed else None


class _Chunk:
    def __init__(self, code: bytes) -> None:
        self.code = code
        self.out = bytearray(code)
        self.at = _HEADER_SIZE
        self.changed = False

    def function(self) -> None:
        self._string()
        # First and last line, then upvalues, parameters, vararg flag, stack size.
        self.at += 12
        self._instructions()
        for _ in range(self._int()):
            kind = self.code[self.at]
            self.at += 1
            if kind == _STRING:
                self._string()
            else:
                self.at += _CONSTANT_SIZES[kind]
        for _ in range(self._int()):
            self.function()
        lines = self._int()
        self.at += 4 * lines
        for _ in range(self._int()):
            self._string()
            self.at += 8
        for _ in range(self._int()):
            self._string()

    def _instructions(self) -> None:
        count = self._int()
        start = self.at
        self.at += 4 * count
        words = memoryview(self.code)[start : self.at].cast("I")
        skip = False
        for i, word in enumerate(words):
            if skip:
                skip = False
                continue
            op = word & _OP_MASK
            if op == _TAILCALL:
                self.out[start + 4 * i] = (self.code[start + 4 * i] & ~_OP_MASK & 0xFF) | _CALL
                self.changed = True
            elif op == _SETLIST:
                # A big block number follows as a bare word.
                skip = (word >> _C_SHIFT) & _C_MASK == 0

    def _int(self) -> int:
        value: int = _INT.unpack_from(self.code, self.at)[0]
        self.at += 4
        return value

    def _string(self) -> None:
        self.at += 8 + int(_SIZE.unpack_from(self.code, self.at)[0])

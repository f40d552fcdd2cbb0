"""Client bytes to argvs: incremental, strict as Valkey's networking.c, with bounded memory. [compiled]

Rule: the only place that reads requests. The same bytes give the same argvs and the same error however they are cut
into chunks, and every byte is looked at a bounded number of times. It knows no session: the connection says whether
the client is authenticated.

What waits for more input is kept as: the arguments complete so far (``_argv``, with ``_left`` still missing), the
length of the argument being read (``_bulk``, -1 while its header is incomplete) and the unread bytes (``_tail``).
"""

from __future__ import annotations

from typing import Final

from mypy_extensions import i64

from durakv.resp.errors import ProtocolError

# Limits of valkey's networking.c: PROTO_INLINE_MAX_SIZE and the two for clients that have not authenticated.
LINE_MAX: Final = 64 * 1024
UNAUTHENTICATED_ARGS_MAX: Final = 10
UNAUTHENTICATED_ARG_MAX_BYTES: Final = 16384
UNAUTHENTICATED_PENDING_MAX_BYTES: Final = 1 << 20
# Valkey 9 allows 2^31 - 1 arguments; a header of eight bytes must not reserve that much of a log entry.
ARGS_MAX: Final = 1024 * 1024
DEFAULT_ARG_MAX_BYTES: Final = 512 << 20
DEFAULT_QUERY_BUFFER_MAX_BYTES: Final = 1 << 30
# What an argument costs beyond its bytes: the object's header and its place in the list.
ARG_OVERHEAD_BYTES: Final = 56

_CR: Final[i64] = 13
_LF: Final = 10
_STAR: Final[i64] = 42
_DOLLAR: Final[i64] = 36
_ZERO: Final[i64] = 48
_NINE: Final[i64] = 57
# No byte at all: only the length can end this line, and only in an error.
_NEVER: Final = 256
_INT64_MAX: Final = (1 << 63) - 1
_INT64_DIGITS: Final = 19
_SHORT_DIGITS: Final[i64] = 6
_NOT_A_NUMBER: Final = -(1 << 63) - 1

_SPACES: Final = b" \t\n\v\f\r"
_TOKEN_ENDS: Final = b" \t\n\r\0"
_ESCAPES: Final = {0x6E: b"\n", 0x72: b"\r", 0x74: b"\t", 0x62: b"\b", 0x61: b"\a"}
_DOUBLE_QUOTE: Final = 0x22
_SINGLE_QUOTE: Final = 0x27
_BACKSLASH: Final = 0x5C
_LETTER_X: Final = 0x78
_HEX: Final = b"0123456789abcdefABCDEF"
_HTTP: Final = (b"post", b"host:")


class Parser:
    """One connection's input.

    ``error`` is set when the client broke the protocol: the argvs returned by that call came before it. ``dropped``
    says why the link must close without a word (empty while it need not). After either, feed() returns nothing.
    """

    def __init__(
        self,
        arg_max_bytes: int = DEFAULT_ARG_MAX_BYTES,
        query_buffer_max_bytes: int = DEFAULT_QUERY_BUFFER_MAX_BYTES,
        authenticated: bool = True,
    ) -> None:
        # Settable at any time; they hold from the next header on.
        self.arg_max_bytes = arg_max_bytes
        self.query_buffer_max_bytes = query_buffer_max_bytes
        self.authenticated = authenticated
        self.error: ProtocolError | None = None
        self.dropped = ""
        # False while nothing at all is retained: the common case takes the short way through feed().
        self._waiting = False
        self._stopped = False
        # True within a command: its header was read, and not all of its arguments.
        self._resumed = False
        self._argv: list[bytes] = []
        self._argv_bytes: i64 = 0
        # How many of ``_argv`` are in ``_argv_bytes``.
        self._argv_counted = 0
        self._left: i64 = 0
        self._bulk: i64 = -1
        self._tail = bytearray()
        # Bytes in ``_tail`` below which nothing can happen, and the byte that must arrive (-1: any progress counts).
        self._need = 0
        self._awaited = -1
        # Input behind the one command an unauthenticated client gets per call.
        self._rest = b""
        self._rest_at = 0

    def feed(self, data: bytes) -> list[list[bytes]]:
        """The commands completed by ``data``, in order.

        While ``authenticated`` is False at most one is returned, since the next may be read under other limits: call
        again with b"" until the answer is empty.
        """
        if not self._waiting:
            return self._parse(data, 0)
        if self._stopped:
            return []
        if self._rest_at < len(self._rest):
            rest = self._rest
            at = self._rest_at
            self._rest = b""
            self._rest_at = 0
            if data:
                return self._parse(rest[at:] + data, 0)
            return self._parse(rest, at)
        tail = self._tail
        tail += data
        size = len(tail)
        if not data or size < self._need:
            self._check_pending(size)
            return []
        if self._awaited >= 0 and size <= LINE_MAX and (self._awaited == _NEVER or self._awaited not in data):
            self._check_pending(size)
            return []
        if self._bulk >= 0:
            # The argument is cut from the buffer itself: a large one is not copied a second time.
            bulk = int(self._bulk)
            self._argv.append(_cut(tail, bulk))
            self._bulk = -1
            self._left -= 1
            del tail[: bulk + 2]
        joined = bytes(tail)
        tail.clear()
        return self._parse(joined, 0)

    def waiting(self) -> bool:
        """Whether anything is held for an incomplete command."""
        return self._waiting

    def pending_bytes(self) -> int:
        """Memory held for an incomplete command, about."""
        return len(self._tail) + int(self._argv_bytes) + len(self._rest) - self._rest_at

    # -- the grammar -----------------------------------------------------------------------------------------------

    def _parse(self, data: bytes, start: int) -> list[list[bytes]]:
        """Read commands from ``data[start:]`` on, going on with a command begun earlier."""
        commands: list[list[bytes]] = []
        size: i64 = len(data)
        pos: i64 = start
        left = self._left
        argv = self._argv
        resumed = self._resumed
        self._waiting = False
        authenticated = self.authenticated
        args_max: i64 = ARGS_MAX if authenticated else UNAUTHENTICATED_ARGS_MAX
        arg_max: i64 = self.arg_max_bytes if authenticated else UNAUTHENTICATED_ARG_MAX_BYTES
        while True:
            if not resumed:
                if pos >= size:
                    return commands
                if data[pos] != _STAR:
                    pos = self._inline(data, pos, commands)
                    if pos < 0:
                        return commands
                    if not authenticated and commands:
                        break
                    continue
                # Short headers are read here; whatever looks different goes through _header().
                left, after = _short_number(data, pos + 1, size)
                if 0 < left <= args_max:
                    pos = after
                else:
                    pos = self._header(data, pos, True)
                    if pos < 0:
                        return commands
                    left = self._left
                    if left == 0:
                        continue
                argv = []
            while left > 0:
                bulk, after = _short_number(data, pos + 1, size)
                if 0 <= bulk <= arg_max and data[pos] == _DOLLAR:
                    pos = after
                else:
                    self._suspend(argv, left, -1)
                    pos = self._header(data, pos, False)
                    if pos < 0:
                        return commands
                    bulk = self._bulk
                end = pos + bulk
                if end + 2 > size:
                    self._suspend(argv, left, bulk)
                    self._wait(data, pos, int(bulk) + 2, -1)
                    return commands
                argv.append(data[pos:end])
                pos = end + 2
                left -= 1
            commands.append(argv)
            if self._resumed:
                self._forget_command()
            resumed = False
            if not authenticated:
                break
        if pos < size:
            self._rest = data
            self._rest_at = int(pos)
            self._waiting = True
        return commands

    def _forget_command(self) -> None:
        """The command that was suspended has been read completely."""
        self._suspend([], 0, -1)
        self._resumed = False
        self._argv_bytes = 0
        self._argv_counted = 0

    def _suspend(self, argv: list[bytes], left: i64, bulk: i64) -> None:
        """Remember the command being read."""
        self._resumed = True
        self._argv = argv
        self._left = left
        self._bulk = bulk

    def _header(self, data: bytes, pos: i64, multibulk: bool) -> i64:
        """Read any ``*n`` or ``$n`` line into ``_left`` or ``_bulk``; the offset behind it, -1 to stop parsing.

        Order of the checks as in valkey's processMultibulkBuffer(): line end, type byte, number, limits.
        """
        start = int(pos)
        size = len(data)
        line_end = data.find(b"\r", start, start + LINE_MAX + 1)
        # C strings end at a NUL: behind one, Valkey never finds the line's end.
        if line_end < 0 or data.find(b"\0", start, line_end) >= 0:
            if size - start > LINE_MAX:
                return self._fail("too big mbulk count string" if multibulk else "too big bulk count string")
            self._wait(data, pos, 1, int(_CR) if line_end < 0 else _NEVER)
            return -1
        if line_end + 2 > size:
            self._wait(data, pos, line_end + 2 - start, -1)
            return -1
        # Before the number is cut out: in a line without any byte there is nothing to cut.
        if not multibulk and data[start] != _DOLLAR:
            got = data[start : start + 1].decode("utf-8", "surrogateescape")
            return self._fail(f"expected '$', got '{got}'")
        number = _number(data[start + 1 : line_end])
        if multibulk:
            if number == _NOT_A_NUMBER or number > ARGS_MAX:
                return self._fail("invalid multibulk length")
            if number > UNAUTHENTICATED_ARGS_MAX and not self.authenticated:
                return self._fail("unauthenticated multibulk length")
            self._left = max(number, 0)
        else:
            if number < 0 or number > self.arg_max_bytes:
                return self._fail("invalid bulk length")
            if number > UNAUTHENTICATED_ARG_MAX_BYTES and not self.authenticated:
                return self._fail("unauthenticated bulk length")
            self._bulk = number
        return line_end + 2

    def _inline(self, data: bytes, pos: i64, commands: list[list[bytes]]) -> i64:
        """Read one line of words; the offset behind it, -1 to stop parsing."""
        start = int(pos)
        line_end = data.find(b"\n", start, start + LINE_MAX + 1)
        if line_end < 0 or data.find(b"\0", start, line_end) >= 0:
            if len(data) - start > LINE_MAX:
                return self._fail("too big inline request")
            self._wait(data, pos, 1, _LF if line_end < 0 else _NEVER)
            return -1
        stop = line_end
        if stop > start and data[stop - 1] == _CR:
            stop -= 1
        words = split_words(data[start:stop])
        if words is None:
            return self._fail("unbalanced quotes in request")
        if words:
            if words[0].lower() in _HTTP:
                # A browser was made to talk to us: what follows in its request must not run (valkey's cross-protocol
                # guard). It gets no answer.
                self._drop("possible cross-protocol scripting: an HTTP request arrived on the client port")
                return -1
            commands.append(words)
        return line_end + 1

    # -- what is kept between calls --------------------------------------------------------------------------------

    def _wait(self, data: bytes, pos: i64, need: int, awaited: int) -> None:
        """Keep ``data[pos:]`` until it has ``need`` bytes and, unless -1, ``awaited`` is among the new ones."""
        self._waiting = True
        self._need = need
        self._awaited = awaited
        tail = data[int(pos) :]
        self._tail += tail
        self._check_pending(len(tail))

    def _check_pending(self, tail_bytes: int) -> None:
        argv = self._argv
        if len(argv) > self._argv_counted:
            total: i64 = self._argv_bytes
            for i in range(self._argv_counted, len(argv)):
                total += len(argv[i]) + ARG_OVERHEAD_BYTES
            self._argv_bytes = total
            self._argv_counted = len(argv)
        limit = self.query_buffer_max_bytes
        if not self.authenticated and limit > UNAUTHENTICATED_PENDING_MAX_BYTES:
            limit = UNAUTHENTICATED_PENDING_MAX_BYTES
        if tail_bytes + self._argv_bytes > limit:
            self._drop(f"an unfinished request of more than {limit} bytes (client-query-buffer-limit)")

    def _fail(self, text: str) -> int:
        self.error = ProtocolError(text)
        self._stop()
        return -1

    def _drop(self, reason: str) -> None:
        self.dropped = reason
        self._stop()

    def _stop(self) -> None:
        self._stopped = True
        self._waiting = True
        self._argv = []
        self._argv_bytes = 0
        self._argv_counted = 0
        self._tail = bytearray()
        self._rest = b""
        self._rest_at = 0


def _short_number(data: bytes, pos: i64, size: i64) -> tuple[i64, i64]:
    """A number of one to six digits that ends its line, and the offset behind the line; (-1, 0) for anything else.

    The byte behind the carriage return must be there, but like Valkey nobody looks at it.
    """
    number: i64 = 0
    at = pos
    end = pos + _SHORT_DIGITS
    if end > size:
        end = size
    while at < end:
        digit: i64 = data[at]
        if digit < _ZERO or digit > _NINE:
            break
        number = number * 10 + (digit - _ZERO)
        at += 1
    if at + 1 >= size or data[at] != _CR or at == pos or (data[pos] == _ZERO and at > pos + 1):
        return -1, 0
    return number, at + 2


def _cut(buffer: bytearray, size: int) -> bytes:
    """The first ``size`` bytes, copied once."""
    with memoryview(buffer) as view:
        return bytes(view[:size])


def _number(text: bytes) -> int:
    """A 64-bit integer without sign games or leading zeros (valkey util.c string2ll()), else _NOT_A_NUMBER."""
    if text == b"0":
        return 0
    digits = text[1:] if text.startswith(b"-") else text
    if not digits.isdigit() or digits.startswith(b"0") or len(digits) > _INT64_DIGITS:
        return _NOT_A_NUMBER
    number = int(text)
    return number if -_INT64_MAX - 1 <= number <= _INT64_MAX else _NOT_A_NUMBER


def split_words(line: bytes) -> list[bytes] | None:
    """Split an inline request at blanks, honouring quotes and escapes (valkey sds.c sdssplitargs()).

    None when quotes do not close or a closing quote touches the next word.
    """
    if b'"' not in line and b"'" not in line:
        return _split_plain(line)
    words: list[bytes] = []
    size = len(line)
    at = 0
    while True:
        while at < size and line[at] in _SPACES:
            at += 1
        if at >= size:
            return words
        word = bytearray()
        while at < size and line[at] not in _TOKEN_ENDS:
            letter = line[at]
            if letter == _DOUBLE_QUOTE:
                at = _double_quoted(line, at + 1, word)
            elif letter == _SINGLE_QUOTE:
                at = _single_quoted(line, at + 1, word)
            else:
                word.append(letter)
                at += 1
                continue
            if at < 0:
                return None
            # A closing quote ends the word.
            break
        words.append(bytes(word))


def _split_plain(line: bytes) -> list[bytes]:
    """Words of a line without quotes. A vertical tab or form feed is a blank in front of a word and a letter in it."""
    if b"\v" not in line and b"\f" not in line:
        return line.split()
    words = []
    for word in line.replace(b"\t", b" ").replace(b"\r", b" ").replace(b"\n", b" ").split(b" "):
        stripped = word.lstrip(b"\v\f")
        if stripped:
            words.append(stripped)
    return words


def _double_quoted(line: bytes, at: int, word: bytearray) -> int:
    """Append the text up to the closing quote; the offset behind it, -1 when it does not close properly."""
    size = len(line)
    while at < size:
        letter = line[at]
        if letter == _DOUBLE_QUOTE:
            return at + 1 if at + 1 == size or line[at + 1] in _SPACES else -1
        if letter == _BACKSLASH and at + 1 < size:
            follower = line[at + 1]
            if follower == _LETTER_X and at + 3 < size and line[at + 2] in _HEX and line[at + 3] in _HEX:
                word.append(int(line[at + 2 : at + 4], 16))
                at += 4
                continue
            word += _ESCAPES.get(follower, line[at + 1 : at + 2])
            at += 2
            continue
        word.append(letter)
        at += 1
    return -1


def _single_quoted(line: bytes, at: int, word: bytearray) -> int:
    r"""Append the text up to the closing quote; only ``\'`` is an escape. See _double_quoted."""
    size = len(line)
    while at < size:
        letter = line[at]
        if letter == _SINGLE_QUOTE:
            return at + 1 if at + 1 == size or line[at + 1] in _SPACES else -1
        if letter == _BACKSLASH and at + 1 < size and line[at + 1] == _SINGLE_QUOTE:
            word.append(_SINGLE_QUOTE)
            at += 2
            continue
        word.append(letter)
        at += 1
    return -1

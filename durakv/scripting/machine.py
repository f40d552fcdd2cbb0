"""One Lua state, and the crossings between it and Python.

Rule: the only place that touches lupa. Nothing raises into Lua: what goes wrong in Python is kept in ``fault`` and the
script is stopped. Before Python allocates in Lua it makes sure that there is room, since an allocation that fails there
would jump over Python's frames; scripts themselves run into the memory limit long before the allocator's.
It knows nothing of commands: it asks its Desk.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final, Protocol

from lupa.lua51 import LuaError, LuaRuntime

from durakv.resp.errors import CommandError
from durakv.resp.types import ErrorReply, Map, Reply
from durakv.scripting import binary, reply
from durakv.scripting.bytecode import without_tail_calls
from durakv.scripting.lua_api import API, CALL_COST, DEPTH_MAX
from durakv.scripting.lua_charged import CHARGED, PER_INSTRUCTION
from durakv.scripting.lua_json import JSON
from durakv.scripting.lua_sandbox import SANDBOX, STEP

MIB: Final = 1 << 20
# What the collector may leave to itself before a run is half again the limit, then there must be room for a reply.
_ALLOCATOR_SLACK: Final = 32 * MIB
# Garbage of finished runs above which the collector runs between two of them, in KiB over the least seen.
_IDLE_GARBAGE_KIB: Final = 4096
# Instructions charged for this many bytes moved across.
_BYTES_PER_INSTRUCTION: Final = 16
_OK: Final = 0
_ERROR: Final = 1
_STOP: Final = 2


class Desk(Protocol):
    """Who carries out what a running script asks for. Methods may raise; the script is then stopped."""

    def call(self, argv: list[bytes]) -> Reply:
        """Run a command. Raises CommandError for an error the script is told of."""

    def may(self, argv: list[bytes]) -> bool:
        """Whether the caller has the right to run a command. Raises CommandError when there is none of that name."""

    def log(self, level: int, line: bytes) -> None:
        """server.log(); levels as in Valkey, 0 debug to 3 warning."""


class Versions:
    """What scripts are told: text and number of the Redis and the Valkey version."""

    def __init__(self, redis: bytes, valkey: bytes) -> None:
        self.redis = redis
        self.valkey = valkey

    @staticmethod
    def number(text: bytes) -> int:
        """Two hex digits for each part."""
        major, minor, patch = (int(part) for part in text.split(b"."))
        return major << 16 | minor << 8 | patch


class CompileError(Exception):
    """The text is no Lua; ``text`` is what the compiler says."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class OutOfMemory(Exception):
    """The script needs more memory than it was given. The machine must not be used again."""


class ScriptError(Exception):
    """The script ended in an error. ``source`` and ``line`` say where, when that is known."""

    def __init__(self, text: str, source: str = "", line: int = 0) -> None:
        super().__init__(text)
        self.text = text
        self.source = source
        self.line = line


class OutOfInstructions(ScriptError):
    """The script was stopped at its limit."""


def _no_attributes(target: object, name: object, is_setting: bool) -> object:
    raise AttributeError("scripts see no Python objects")


def _text(value: object) -> str:
    return value.decode("utf-8", "surrogateescape") if isinstance(value, bytes) else str(value)


class Machine:
    """A Lua state for scripts of one node, run one after the other. ``budget_bytes`` is what one script may hold."""

    def __init__(self, desk: Desk, versions: Versions, budget_bytes: int) -> None:
        self.desk = desk
        self.budget_bytes = budget_bytes
        self.fault: BaseException | None = None
        # Unlimited until the first run sets it.
        self.lua: Any = LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_filter=_no_attributes, max_memory=1 << 40,
        )  # fmt: skip
        self.table_from: Any = self.lua.table_from
        sethook = self.lua.eval(b"debug.sethook")
        d = self._chunk(SANDBOX)(STEP)
        d[b"patch"] = self._patch
        self._chunk(JSON)(d)
        numbers = {
            b"redis": versions.redis, b"redis_number": Versions.number(versions.redis),
            b"valkey": versions.valkey, b"valkey_number": Versions.number(versions.valkey),
        }  # fmt: skip
        self._chunk(API)(
            d, self._call, self._binary, self._log, self._may, self._sha1, self.table_from(numbers),
            DEPTH_MAX, CALL_COST,
        )  # fmt: skip
        self._chunk(CHARGED)(d, PER_INSTRUCTION)
        self._sethook: Any = sethook
        self._begin: Any = d[b"begin"]
        self._seed: Any = d[b"seed"]
        self._stopped: Any = d[b"stopped"]
        self._finish: Any = d[b"finish"]
        self._reset: Any = d[b"reset"]
        self._compile: Any = d[b"compile"]
        self._eval: Any = d[b"eval"]
        self._fcall: Any = d[b"fcall"]
        self._load: Any = d[b"load"]
        # Without the library lupa makes no traceback of every error; nothing reaches these globals any more.
        self.lua.execute(b"debug, python, io, package, require, module, dofile, loadfile, print = nil")
        self.idle_kib = float(self._finish(0))

    def _chunk(self, source: str) -> Any:
        return self.lua.compile(source.encode(), name=b"=durakv")

    # -- used by Python ----------------------------------------------------------------------------------------------

    def compile(self, text: bytes, name: bytes) -> Any:
        """The function of a script; ``name`` as in error messages. Raises CompileError, OutOfMemory."""
        # The parser's structures take many times the text.
        self._room(32 * len(text))
        result = self._compile(text, name)
        if isinstance(result, tuple):
            raise CompileError(_text(result[1]))
        if self.fault is not None:
            raise self._taken_fault()
        return result

    def eval(self, script: Any, keys: list[bytes], argv: list[bytes], limit: int, seed: int) -> Reply:
        """Run a compiled script. Raises ScriptError, OutOfMemory, and whatever the desk raised."""
        return self._run(self._eval, (script,), keys, argv, limit, seed)

    def fcall(self, library: Any, name: bytes, keys: list[bytes], argv: list[bytes], limit: int, seed: int) -> Reply:
        """Run a function of a compiled library, which is loaded anew. Raises as eval() does."""
        return self._run(self._fcall, (library, name), keys, argv, limit, seed)

    def load(self, library: Any, limit: int) -> list[tuple[bytes, bytes | None, list[bytes]]]:
        """(name, description, flags) of the functions a compiled library registers. Raises as eval() does."""
        self._prepare(limit, 0, 0)
        tokens = self._finished(self._started(self._load, (library,)), as_list=True)
        assert isinstance(tokens, list)
        found: list[tuple[bytes, bytes | None, list[bytes]]] = []
        for at in range(0, len(tokens), 3):
            name, description, flags = tokens[at : at + 3]
            found.append((name, description or None, [flag for flag in flags.split(b",") if flag]))
        return found

    # -- one run -----------------------------------------------------------------------------------------------------

    def _run(
        self, entry: Any, head: tuple[Any, ...], keys: list[bytes], argv: list[bytes], limit: int, seed: int
    ) -> Reply:
        size = sum(len(arg) + reply.SLOT_BYTES for arg in keys) + sum(len(arg) + reply.SLOT_BYTES for arg in argv)
        self._prepare(limit, seed, size)
        return self._finished(self._started(entry, (*head, self.table_from(keys), self.table_from(argv))))

    def _prepare(self, limit: int, seed: int, size: int) -> None:
        if size > self.budget_bytes // 4:
            raise OutOfMemory
        self.fault = None
        self._set_allocator_limit()
        self._begin(limit, self.budget_bytes / 1024)
        self._seed(seed >> 24 & 0xFFFFFF, seed & 0xFFFFFF)

    def _started(self, entry: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """(kind, value, ...) as outcome() in lua_api.py returns it."""
        try:
            result = entry(*args)
        except LuaError:
            result = None
        if result is not None:
            if self.fault is not None:
                self._end()
                raise self._taken_fault()
            return result if isinstance(result, tuple) else (result,)
        # It was stopped, which not even its last frame could catch.
        self.lua.set_max_memory(0)
        self._sethook()
        why = self._stopped()
        reason, source, line = why if isinstance(why, tuple) else (why, b"", 0)
        if self.fault is not None:
            raise self._taken_fault()
        if reason != b"instructions":
            raise OutOfMemory
        self._end()
        raise OutOfInstructions("", _text(source), int(line))

    def _finished(self, result: tuple[Any, ...], *, as_list: bool = False) -> Any:
        kind = result[0]
        try:
            if kind == b"e":
                text, source, line = (*result[1:], None, None, None)[:3]
                if text == b"not enough memory":
                    raise OutOfMemory
                if isinstance(text, (int, float)):
                    text = reply.argument(text)
                if text is None:
                    text = b"(null)"
                raise ScriptError(reply.error_text(text), _text(source) if source else "", int(line or 0))
            _, value, resp = result
            if kind == b"t":
                tokens = list(value.values())[1:]
                return tokens if as_list else reply.compound(tokens, resp)
            return reply.scalar(value, resp)
        finally:
            self._end()

    def _end(self) -> None:
        self._reset()
        # Grows with the compiled scripts kept, so that it is not taken for garbage again and again.
        kib = float(self._finish(self.idle_kib + _IDLE_GARBAGE_KIB))
        self.idle_kib = min(max(self.idle_kib, kib - _IDLE_GARBAGE_KIB), kib)

    def _taken_fault(self) -> BaseException:
        fault = self.fault
        self.fault = None
        assert fault is not None
        return fault

    def _set_allocator_limit(self) -> None:
        allowed = 2 * self.budget_bytes + _ALLOCATOR_SLACK
        self.lua.set_max_memory(self.lua.get_memory_used(total=True) + allowed, total=True)

    def _room(self, size: int) -> None:
        if size > self.budget_bytes:
            raise OutOfMemory
        self._set_allocator_limit()

    # -- called by Lua -----------------------------------------------------------------------------------------------

    def _arguments(self, n: int, args: tuple[Any, ...]) -> list[bytes]:
        """The arguments of a call as bytes. Raises CommandError."""
        if n and len(args) == 1 and n != 1:
            args = tuple(args[0].values())
        argv: list[bytes] = []
        for value in args:
            text = reply.argument(value)
            if text is None:
                break
            argv.append(text)
        if len(argv) != n:
            raise CommandError("ERR Command arguments must be strings or integers")
        return argv

    def _call(self, resp: int, n: int, *args: Any) -> tuple[int, Any, int]:
        try:
            try:
                answer = self.desk.call(self._arguments(n, args))
            except CommandError as e:
                answer = e
            size = reply.size_of(answer)
            cost = size // _BYTES_PER_INSTRUCTION
            if size > self.budget_bytes // 4:
                return _STOP, b"memory", 0
            if isinstance(answer, (CommandError, ErrorReply)):
                return _ERROR, answer.text.encode("utf-8", "surrogateescape"), cost
            return _OK, reply.to_lua(answer, resp, self.table_from), cost
        except BaseException as fault:  # noqa: BLE001 - raised again when the script has been stopped
            self.fault = fault
            return _STOP, b"fault", 0

    def _may(self, n: int, *args: Any) -> tuple[int, Any]:
        try:
            return _OK, self.desk.may(self._arguments(n, args))
        except CommandError as e:
            return _ERROR, e.text.removeprefix("ERR ").encode("utf-8", "surrogateescape")
        except BaseException as fault:  # noqa: BLE001 - raised again when the script has ended
            self.fault = fault
            return _ERROR, b"internal error"

    def _log(self, level: int, line: bytes) -> None:
        try:
            self.desk.log(level, line)
        except BaseException as fault:  # noqa: BLE001 - raised again when the script has ended
            self.fault = fault

    def _sha1(self, text: bytes) -> bytes:
        return hashlib.sha1(text).hexdigest().encode()

    def _patch(self, code: bytes) -> bytes | None:
        try:
            return without_tail_calls(code)
        except BaseException as fault:  # noqa: BLE001 - raised again by compile()
            self.fault = fault
            return None

    def _binary(self, name: bytes, *args: Any) -> tuple[Any, ...]:
        try:
            if name == b"cmsgpack.pack":
                args = (list(args[0].values()),)
            values = binary.run(name, args)
            if reply.size_of(values) > self.budget_bytes // 4:
                return False, b"the result does not fit the script's memory"
            return True, *[self._value(value) for value in values]
        except binary.LibraryError as e:
            return False, e.text.encode("utf-8", "surrogateescape")
        except BaseException as fault:  # noqa: BLE001 - raised again when the script has ended
            self.fault = fault
            return False, b"internal error"

    def _value(self, value: Any) -> Any:
        if isinstance(value, list):
            return self.table_from([self._value(item) for item in value])
        if isinstance(value, Map):
            flat = [self._value(item) for item in value.flat]
            return self.table_from(_keyed(flat))
        return value


def _keyed(flat: list[Any]) -> dict[Any, Any]:
    """Python takes True for 1; in Lua they are two keys, so a boolean that would meet a number is left out."""
    out: dict[Any, Any] = {}
    booleans: list[tuple[Any, Any]] = []
    for at in range(0, len(flat), 2):
        if isinstance(flat[at], bool):
            booleans.append((flat[at], flat[at + 1]))
        else:
            out[flat[at]] = flat[at + 1]
    for key, value in booleans:
        out.setdefault(key, value)
    return out

"""One Lua state, and the crossings between it and Python.

Rule: the only place that touches lupa. Nothing raises into Lua: what goes wrong in Python is kept in ``fault`` and the
script is stopped. Before Python allocates in Lua it makes sure that there is room, since an allocation that fails there
would jump over Python's frames; scripts themselves run into the memory limit long before the allocator's.
It knows nothing of commands: it asks its Desk.
"""

from __future__ import annotations

import hashlib
from typing import Any, Final

from lupa.lua51 import LuaError, LuaRuntime

from durakv.commands.context import mix64
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, ErrorReply, Map, Reply, Simple
from durakv.scripting import binary, reply
from durakv.scripting.bytecode import without_tail_calls
from durakv.scripting.desk import Desk
from durakv.scripting.lua_api import API, CALL_COST
from durakv.scripting.lua_chance import CHANCE
from durakv.scripting.lua_charged import CHARGED, PER_INSTRUCTION
from durakv.scripting.lua_json import JSON
from durakv.scripting.lua_reply import DEPTH_MAX, FLATTEN
from durakv.scripting.lua_sandbox import IDLE_GARBAGE_KIB, SANDBOX, STEP

MIB: Final = 1 << 20
# What the collector may leave to itself before a run is half again the limit, then there must be room for a reply.
_ALLOCATOR_SLACK: Final = 32 * MIB
# The allocator's limit follows what is in use in steps of this.
_ALLOCATOR_STEP: Final = 16 * MIB
# Instructions charged for this many bytes moved across.
_BYTES_PER_INSTRUCTION: Final = 16
# What stands behind the value of a call's answer that is not plain; as in lua_api.py.
_OK: Final = 0
_ERROR: Final = 1
_STOP: Final = 2
_STATUS: Final = 3
_TABLE: Final = 4
_ARRAY: Final = 5
_PLAIN_BYTES_MAX: Final = 64
# Integers below this are the same as Lua's numbers.
_EXACT_END: Final = 1 << 53
# Beyond this many values things travel as one table.
_FEW: Final = 32


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


class Seed:
    """What math.random() starts from, worked out when it is called: 48 bits from a counter of an entry's seed."""

    def __init__(self, seed: int, counter: int) -> None:
        self.seed = seed
        self.counter = counter

    def bits48(self) -> int:
        """The start."""
        return mix64(self.seed, self.counter) & 0xFFFFFFFFFFFF if self.counter else 0


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


def _size(args: list[bytes]) -> int:
    size = reply.SLOT_BYTES * len(args)
    for arg in args:
        size += len(arg)
    return size


class Machine:
    """A Lua state for scripts of one node, run one after the other. ``budget_bytes`` is what one script may hold."""

    def __init__(self, desk: Desk, versions: Versions, budget_bytes: int) -> None:
        self.desk = desk
        self.budget_bytes = budget_bytes
        self.fault: BaseException | None = None
        self.seed = Seed(0, 0)
        # What a call that answers OK comes to.
        self._ok: tuple[Any, ...] = (OK.text, _STATUS, reply.size_of(OK) // _BYTES_PER_INSTRUCTION)
        # Unlimited until the first run sets it.
        self.lua: Any = LuaRuntime(
            encoding=None, unpack_returned_tuples=True, register_eval=False, register_builtins=False,
            attribute_filter=_no_attributes, max_memory=1 << 40,
        )  # fmt: skip
        self.table_from: Any = self.lua.table_from
        sethook = self.lua.eval(b"debug.sethook")
        d = self._chunk(SANDBOX)(STEP, IDLE_GARBAGE_KIB)
        d[b"patch"] = self._patch
        self._chunk(CHANCE)(d, self._seed)
        self._chunk(FLATTEN)(d, DEPTH_MAX)
        self._chunk(JSON)(d)
        numbers = {
            b"redis": versions.redis, b"redis_number": Versions.number(versions.redis),
            b"valkey": versions.valkey, b"valkey_number": Versions.number(versions.valkey),
        }  # fmt: skip
        self._chunk(API)(
            d, self._call, self._call3, self._call_many, self._binary, self._log, self._may, self._sha1,
            self.table_from(numbers), CALL_COST,
        )  # fmt: skip
        self._chunk(CHARGED)(d, PER_INSTRUCTION)
        self._sethook: Any = sethook
        self._stopped: Any = d[b"stopped"]
        self._ended: Any = d[b"ended"]
        self._compile: Any = d[b"compile"]
        self._eval: Any = d[b"eval"]
        self._eval_few: Any = d[b"eval_few"]
        self._fcall: Any = d[b"fcall"]
        self._fcall_few: Any = d[b"fcall_few"]
        self._load: Any = d[b"load"]
        # Without the library lupa makes no traceback of every error; nothing reaches these globals any more.
        self.lua.execute(b"debug, python, io, package, require, module, dofile, loadfile, print = nil")
        # What Lua held after the last run, and the allocator's limit.
        self._used_bytes: int = int(d[b"settle"]()) << 10
        self._limit_bytes: int = 0

    def close(self) -> None:
        """Give the state's memory back; it must not be used again.

        Lua refers to this object and this object to Lua, and a server collects no cycles.
        """
        self.table_from = self._sethook = self._stopped = self._ended = self._compile = None
        self._eval = self._eval_few = self._fcall = self._fcall_few = self._load = self.lua = None

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

    def eval(self, script: Any, keys: list[bytes], argv: list[bytes], limit: int, seed: Seed) -> Reply:
        """Run a compiled script. Raises ScriptError, OutOfMemory, and whatever the desk raised."""
        self.seed = seed
        room_kib = self._prepared(_size(keys) + _size(argv))
        if len(keys) + len(argv) <= _FEW:
            args: tuple[Any, ...] = (limit, room_kib, script, len(keys), len(argv), *keys, *argv)
            return self._reply(self._started(self._eval_few, args))
        args = (limit, room_kib, script, self.table_from(keys), self.table_from(argv))
        return self._reply(self._started(self._eval, args))

    def fcall(self, library: Any, name: bytes, keys: list[bytes], argv: list[bytes], limit: int, seed: Seed) -> Reply:
        """Run a function of a compiled library, which is loaded anew. Raises as eval() does."""
        self.seed = seed
        room_kib = self._prepared(_size(keys) + _size(argv))
        if len(keys) + len(argv) <= _FEW:
            args: tuple[Any, ...] = (limit, room_kib, library, name, len(keys), len(argv), *keys, *argv)
            return self._reply(self._started(self._fcall_few, args))
        args = (limit, room_kib, library, name, self.table_from(keys), self.table_from(argv))
        return self._reply(self._started(self._fcall, args))

    def load(self, library: Any, limit: int) -> list[tuple[bytes, bytes | None, list[bytes]]]:
        """(name, description, flags) of the functions a compiled library registers. Raises as eval() does."""
        self.seed = Seed(0, 0)
        tokens = self._tokens(self._started(self._load, (limit, self._prepared(0), library)))
        found: list[tuple[bytes, bytes | None, list[bytes]]] = []
        for at in range(0, len(tokens), 3):
            name, description, flags = tokens[at : at + 3]
            found.append((name, description or None, [flag for flag in flags.split(b",") if flag]))
        return found

    # -- one run -----------------------------------------------------------------------------------------------------

    def _prepared(self, size: int) -> float:
        """Make room for arguments of ``size`` bytes; returns the KiB a script may hold. Raises OutOfMemory."""
        if size > self.budget_bytes // 4:
            raise OutOfMemory
        self.fault = None
        allowed = 2 * self.budget_bytes + _ALLOCATOR_SLACK
        if not self._used_bytes + allowed <= self._limit_bytes <= self._used_bytes + allowed + 2 * _ALLOCATOR_STEP:
            self._set_allocator_limit()
        return self.budget_bytes / 1024

    def _started(self, entry: Any, args: tuple[Any, ...]) -> tuple[Any, ...]:
        """(KiB in use, kind, ...) as the entry points of lua_api.py return it."""
        try:
            result = entry(*args)
        except LuaError:
            result = None
        if result is not None:
            if self.fault is not None:
                raise self._taken_fault()
            assert isinstance(result, tuple)
            self._used_bytes = result[0] << 10
            return result
        # It was stopped, which not even its last frame could catch.
        self.lua.set_max_memory(0)
        self._limit_bytes = 0
        self._sethook()
        why = self._stopped()
        reason, source, line = why if isinstance(why, tuple) else (why, b"", 0)
        if self.fault is not None:
            raise self._taken_fault()
        if reason != b"instructions":
            raise OutOfMemory
        self._used_bytes = self._ended() << 10
        raise OutOfInstructions("", _text(source), int(line))

    def _reply(self, result: tuple[Any, ...]) -> Reply:
        if result[1] == b"v":
            return reply.scalar(result[3], result[2])
        return reply.compound(self._tokens(result), result[2])

    def _tokens(self, result: tuple[Any, ...]) -> list[Any]:
        kind = result[1]
        if kind == b"t":
            return list(result[3:])
        if kind == b"T":
            return list(result[3].values())[1:]
        text, source, line = (*result[2:], None, None, None)[:3]
        if text == b"not enough memory":
            raise OutOfMemory
        if isinstance(text, (int, float)):
            text = reply.argument(text)
        if text is None:
            text = b"(null)"
        raise ScriptError(reply.error_text(text), _text(source) if source else "", int(line or 0))

    def _taken_fault(self) -> BaseException:
        fault = self.fault
        self.fault = None
        assert fault is not None
        return fault

    def _set_allocator_limit(self) -> None:
        allowed = 2 * self.budget_bytes + _ALLOCATOR_SLACK
        self._limit_bytes = self.lua.get_memory_used(total=True) + allowed + _ALLOCATOR_STEP
        self.lua.set_max_memory(self._limit_bytes, total=True)

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
            text = value if type(value) is bytes else reply.argument(value)
            if text is None:
                break
            argv.append(text)
        if len(argv) != n:
            raise CommandError("ERR Command arguments must be strings or integers")
        return argv

    def _call(self, *args: Any) -> Any:
        return self._answer(len(args), args, 2)

    def _call3(self, *args: Any) -> Any:
        return self._answer(len(args), args, 3)

    def _call_many(self, resp: int, n: int, args: Any) -> Any:
        return self._answer(n, (args,), resp)

    def _answer(self, n: int, args: tuple[Any, ...], resp: int) -> Any:
        """A plain value, which costs the least, or (value, what it is, cost, items of an array)."""
        try:
            try:
                answer = self.desk.call(self._arguments(n, args))
            except CommandError as e:
                answer = e
            if type(answer) is bytes and len(answer) <= _PLAIN_BYTES_MAX:
                return answer
            if answer is None:
                return None if resp == 3 else False
            if answer is OK:
                return self._ok
            if type(answer) is int:
                return answer if -_EXACT_END < answer < _EXACT_END else float(answer)
            return self._rarer(answer, resp)
        except BaseException as fault:  # noqa: BLE001 - raised again when the script has been stopped
            self.fault = fault
            return b"fault", _STOP, 0

    def _rarer(self, answer: Any, resp: int) -> tuple[Any, ...]:
        size = reply.size_of(answer)
        cost = size // _BYTES_PER_INSTRUCTION
        if size > self.budget_bytes // 4:
            return b"memory", _STOP, 0
        if isinstance(answer, Simple):
            return answer.text, _STATUS, cost
        if isinstance(answer, (CommandError, ErrorReply)):
            return answer.text.encode("utf-8", "surrogateescape"), _ERROR, cost
        if type(answer) is list and len(answer) <= _FEW:
            values: list[Any] = []
            for item in answer:
                value = reply.to_lua(item, resp, self.table_from)
                if value is None:
                    break
                values.append(value)
            else:
                return False, _ARRAY, cost, *values
        return reply.to_lua(answer, resp, self.table_from), _TABLE, cost

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

    def _seed(self) -> tuple[int, int]:
        bits = self.seed.bits48()
        return bits >> 24, bits & 0xFFFFFF

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

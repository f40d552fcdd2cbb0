"""Scripting of one node: from an EVAL or FCALL as the log has it to its reply, and the programs behind it.

Rule: what a script does depends on the logged request, the replicated programs and the databases alone; a Lua state is
only a cache. A script that seems to need too much memory in the shared state, which remembers earlier scripts, is taken
back and run again in a fresh one with twice as much: that run decides, and goes the same way on every node.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

from durakv.commands.context import ReadContext, WriteContext
from durakv.commands.local_text import integer
from durakv.commands.spec import Argv
from durakv.commands.version import COMPATIBLE_REDIS, COMPATIBLE_VALKEY
from durakv.keyspace.slots import slot_of
from durakv.resp.errors import CommandError
from durakv.resp.types import ErrorReply, Reply
from durakv.scripting import function_dump, libraries, shebang, terms
from durakv.scripting.calls import OUT_OF_MEMORY, Call, Calls, Mark
from durakv.scripting.machine import (
    CompileError,
    Machine,
    OutOfInstructions,
    OutOfMemory,
    ScriptError,
    Seed,
    Versions,
)
from durakv.scripting.programs import Function, Library, Programs, Script, sha1

if TYPE_CHECKING:
    from durakv.acl.selector import CommandIndex
    from durakv.commands.table import Table
    from durakv.keyspace.keyspace import Keyspace
    from durakv.scripting.terms import Terms

NOSCRIPT: Final = "NOSCRIPT No matching script."
TOO_MANY_KEYS: Final = "ERR Number of keys can't be greater than number of args"
NEGATIVE_KEYS: Final = "ERR Number of keys can't be negative"
ON_CLUSTER: Final = "ERR Can not run script on cluster, 'no-cluster' flag is set."
WRITES_IN_RO: Final = "ERR Can not execute a script with write flag using *_ro command."
_SHA_LEN: Final = 40
# A library only registers functions; Valkey gives it half a second.
_LOAD_INSTRUCTIONS: Final = 10_000_000
# Compiled scripts and libraries kept by a node.
_COMPILED_MAX: Final = 512
_SCRIPT: Final = b"@user_script"
_LIBRARY: Final = b"@user_function"
# Scripts whose names are kept, and how long one may be for that.
_NAMED_MAX: Final = 512
_NAMED_SIZE_MAX: Final = 1 << 16
# What a memory limit may be while a library is loaded.
_LOAD_MEMORY_BYTES: Final = 64 << 20


class Job:
    """What one run is asked for: the script ``sha`` with its ``text``, or ``function``. ``name`` as in its errors."""

    __slots__ = ("argv", "function", "keys", "name", "seed", "text")

    def __init__(self, name: bytes, keys: Argv, argv: Argv, seed: Seed) -> None:
        self.name = name
        self.keys = keys
        self.argv = argv
        self.seed = seed
        self.text = b""
        self.function: Function | None = None


class Scripting:
    """See the module's text. One for each node."""

    def __init__(self, table: Table, ks: Keyspace, index: CommandIndex) -> None:
        self.index = index
        self.programs = Programs()
        ks.programs = self.programs
        self.calls = Calls(table)
        self.read = ReadContext(ks)
        self.versions = Versions(COMPATIBLE_REDIS, COMPATIBLE_VALKEY)
        # Delivers (shard channel?, channel, message) to this node's listeners.
        self.publish: Callable[[bool, bytes, bytes], None] | None = None
        # Whether requests are another node's or an earlier run's, which count and log there.
        self.replaying: Callable[[], bool] = lambda: False
        self._machine: Machine | None = None
        self._compiled: dict[bytes, Any] = {}
        # Names by text: the same few scripts are sent again and again.
        self._names: dict[bytes, bytes] = {}
        self._terms: tuple[bytes, Terms] | None = None
        self.terms = terms.Encoder()

    # -- scripts -----------------------------------------------------------------------------------------------------

    def eval(self, ctx: ReadContext | WriteContext, argv: Argv, *, by_sha: bool, read_only: bool) -> Reply:
        """EVAL and its kin; the last argument are the terms. Raises CommandError."""
        t = self._decoded(argv[-1])
        if by_sha and len(argv[1]) != _SHA_LEN:
            raise CommandError(NOSCRIPT)
        keys, args = _split(argv, "ERR value is not an integer or out of range")
        sha = argv[1].lower() if by_sha else self.name_of(argv[1])
        script = self.programs.scripts.get(sha)
        writing = isinstance(ctx, WriteContext)
        if script is None:
            if by_sha:
                raise CommandError(NOSCRIPT)
            script = self._checked(sha, argv[1])
            if writing:
                self.programs.add_evaluated(sha, script)
        elif writing:
            self.programs.used(sha)
        call = self._call(ctx, t, script.flags, read_only=read_only, keys=keys)
        job = Job(sha, keys, args, _seed(ctx))
        job.text = script.text
        return self._run(call, job)

    def name_of(self, text: bytes) -> bytes:
        """The SHA-1 of a script."""
        sha = self._names.get(text)
        if sha is None:
            sha = sha1(text)
            if len(text) <= _NAMED_SIZE_MAX:
                if len(self._names) >= _NAMED_MAX:
                    self._names.clear()
                self._names[text] = sha
        return sha

    def load_script(self, text: bytes) -> bytes:
        """SCRIPT LOAD: the script's name. Raises CommandError."""
        sha = sha1(text)
        script = self.programs.scripts.get(sha) or self._checked(sha, text)
        self.programs.add_loaded(sha, script)
        return sha

    def script_text(self, sha: bytes) -> bytes | None:
        """See Scripts."""
        script = self.programs.scripts.get(sha.lower())
        return None if script is None else script.text

    def flush_scripts(self) -> None:
        """See Scripts."""
        self.programs.flush_scripts()
        self._compiled.clear()
        self._names.clear()

    def _checked(self, sha: bytes, text: bytes) -> Script:
        flags, _ = shebang.script_flags(text)
        try:
            self._script(self._shared(), sha, text)
        except CompileError as e:
            raise CommandError("ERR Error compiling script (new function): " + e.text) from None
        except OutOfMemory:
            self._give_up()
            raise CommandError("ERR Error compiling script (new function): not enough memory") from None
        return Script(text, flags)

    def _script(self, machine: Machine, sha: bytes, text: bytes) -> Any:
        compiled = self._known(machine, sha)
        if compiled is None:
            compiled = self._compile(machine, sha, shebang.script_flags(text)[1], _SCRIPT)
        return compiled

    # -- functions ---------------------------------------------------------------------------------------------------

    def fcall(self, ctx: ReadContext | WriteContext, argv: Argv, *, read_only: bool) -> Reply:
        """FCALL and FCALL_RO; the last argument are the terms. Raises CommandError."""
        t = self._decoded(argv[-1])
        function = self.programs.functions.get(argv[1].lower())
        if function is None:
            raise CommandError("ERR Function not found")
        keys, args = _split(argv, "ERR Bad number of keys provided")
        call = self._call(ctx, t, function.flags, read_only=read_only, keys=keys)
        job = Job(function.name, keys, args, _seed(ctx))
        job.function = function
        return self._run(call, job)

    def make_library(self, code: bytes) -> Library:
        """A library from its code, not installed yet. Raises CommandError."""
        name, _ = shebang.library_name(code)
        library = Library(name, code)
        # Always in a fresh state: what earlier scripts left must not decide.
        machine = Machine(self.calls, self.versions, _LOAD_MEMORY_BYTES)
        try:
            found = machine.load(self._library(machine, library), _LOAD_INSTRUCTIONS)
        except CompileError as e:
            raise CommandError("ERR Error compiling function: " + e.text) from None
        except OutOfInstructions:
            raise CommandError("ERR Error registering functions: FUNCTION LOAD timeout") from None
        except OutOfMemory:
            raise CommandError("ERR Error registering functions: not enough memory") from None
        except ScriptError as error:
            raise CommandError("ERR Error registering functions: " + error.text) from None
        finally:
            machine.close()
        for function_name, description, words in found:
            flags = 0
            for word in words:
                flags |= shebang.FLAGS[word]
            library.functions.append(Function(library, function_name, description, flags))
        return library

    def load_library(self, code: bytes, *, replace: bool) -> bytes:
        """See Scripts."""
        libraries.load(self.programs, self.make_library, code, replace=replace)
        return shebang.library_name(code)[0]

    def delete_library(self, name: bytes) -> None:
        """See Scripts."""
        libraries.delete(self.programs, name)

    def flush_libraries(self) -> None:
        """See Scripts."""
        self.programs.set_libraries({})

    def dump_libraries(self) -> bytes:
        """See Scripts."""
        return function_dump.dump([library.code for library in self.programs.libraries.values()])

    def restore_libraries(self, payload: bytes, policy: bytes) -> None:
        """See Scripts."""
        libraries.restore(self.programs, self.make_library, payload, policy)

    def list_libraries(self, pattern: bytes | None, *, with_code: bool) -> Reply:
        """See Scripts."""
        return libraries.listed(self.programs, pattern, with_code=with_code)

    def count_libraries(self) -> tuple[int, int]:
        """See Scripts."""
        found = self.programs.libraries.values()
        return len(found), sum(len(library.functions) for library in found)

    def _library(self, machine: Machine, library: Library) -> Any:
        key = b"library " + library.sha
        compiled = self._known(machine, key)
        if compiled is None:
            compiled = self._compile(machine, key, shebang.library_name(library.code)[1], _LIBRARY)
        return compiled

    # -- running -----------------------------------------------------------------------------------------------------

    def _call(self, ctx: ReadContext | WriteContext, t: Terms, flags: int, *, read_only: bool, keys: Argv) -> Call:
        """The state of a script that may be run. Raises CommandError. Source: script.c scriptPrepareForRun()."""
        if not flags & shebang.COMPATIBLE:
            # First and with this text: upstream's gate counts such a script among the commands that need memory.
            if t.over_memory and not flags & (shebang.ALLOW_OOM | shebang.NO_WRITES):
                raise CommandError(OUT_OF_MEMORY)
            if flags & shebang.NO_CLUSTER and t.cluster:
                raise CommandError(ON_CLUSTER)
            if read_only and not flags & shebang.NO_WRITES:
                raise CommandError(WRITES_IN_RO)
        writing = ctx if isinstance(ctx, WriteContext) else None
        call = Call(ctx if isinstance(ctx, ReadContext) else self.read, writing, t)
        call.read_only = read_only or writing is None or bool(flags & shebang.NO_WRITES)
        call.allow_oom = bool(flags & shebang.ALLOW_OOM)
        call.allow_cross_slot = bool(flags & (shebang.COMPATIBLE | shebang.ALLOW_CROSS_SLOT))
        if keys and t.cluster:
            call.slot = slot_of(keys[0])
        return call

    def _run(self, call: Call, job: Job) -> Reply:
        """The script's reply, an error included. Raises CommandError where its effects are to be undone."""
        calls = self.calls
        assert calls.running is None
        calls.running = call
        calls.count = call.write is None or not self.replaying()
        ctx = call.write
        ks = call.read.ks
        undo_whole = ks.undo_whole
        if ctx is not None:
            ks.undo_whole = True
            ctx_db, can_block = ctx.db, ctx.can_block
            ctx.can_block = False
        else:
            ctx_db = call.read.db
        try:
            reply = self._decided(call, job)
            if call.messages:
                self._send(call)
            return reply
        except ScriptError as e:
            text = _final_text(e, job.name, call.terms)
            if call.terms.atomic:
                raise CommandError(text) from None
            self._send(call)
            return ErrorReply(text)
        finally:
            calls.running = None
            ks.undo_whole = undo_whole
            if ctx is not None:
                ctx.can_block = can_block
                ctx.db = ctx_db
            else:
                call.read.db = ctx_db

    def _ran(self, machine: Machine, call: Call, job: Job) -> Reply:
        limit = call.terms.instructions
        function = job.function
        if function is None:
            return machine.eval(self._script(machine, job.name, job.text), job.keys, job.argv, limit, job.seed)
        library = self._library(machine, function.library)
        return machine.fcall(library, function.name, job.keys, job.argv, limit, job.seed)

    def _decided(self, call: Call, job: Job) -> Reply:
        ctx = call.write
        mark = None if ctx is None else Mark(ctx)
        db, slot, dirty, draws = call.db, call.slot, call.dirty, call.read.draws if ctx is None else ctx.draws
        budget = call.terms.memory_bytes
        try:
            return self._ran(self._shared(budget), call, job)
        except OutOfMemory:
            self._give_up()
        if mark is not None:
            mark.take_back()
        call.db, call.slot, call.dirty = db, slot, dirty
        if ctx is None:
            call.read.draws = draws
        else:
            ctx.draws = draws
        call.messages.clear()
        machine = Machine(self.calls, self.versions, budget)
        try:
            return self._ran(machine, call, job)
        except OutOfMemory:
            raise ScriptError(
                f"ERR the script needs more memory than script-max-memory ({budget} bytes) allows"
            ) from None
        finally:
            machine.close()

    def _give_up(self) -> None:
        """The shared state ran out of memory: the next script gets a new one."""
        self._compiled.clear()
        if self._machine is not None:
            self._machine.close()
            self._machine = None

    def _send(self, call: Call) -> None:
        if self.publish is not None:
            for shard, channel, message in call.messages:
                self.publish(shard, channel, message)

    def _shared(self, memory_bytes: int = 2 * _LOAD_MEMORY_BYTES) -> Machine:
        """The state that scripts share, with half of what a fresh one gives them."""
        budget = memory_bytes // 2
        if self._machine is None:
            self._compiled.clear()
            self._machine = Machine(self.calls, self.versions, budget)
        self._machine.budget_bytes = budget
        return self._machine

    def _known(self, machine: Machine, key: bytes) -> Any:
        """What was compiled in the shared state, now the one used last; None when that must be done (again)."""
        if machine is not self._machine:
            return None
        compiled = self._compiled.pop(key, None)
        if compiled is not None:
            self._compiled[key] = compiled
        return compiled

    def _compile(self, machine: Machine, key: bytes, text: bytes, name: bytes) -> Any:
        compiled = machine.compile(text, name)
        if machine is self._machine:
            if len(self._compiled) >= _COMPILED_MAX:
                del self._compiled[next(iter(self._compiled))]
            self._compiled[key] = compiled
        return compiled

    def _decoded(self, text: bytes) -> Terms:
        if self._terms is None or self._terms[0] != text:
            self._terms = (text, terms.decode(text, self.index))
        return self._terms[1]


def _split(argv: Argv, error: str) -> tuple[Argv, Argv]:
    """Keys and arguments of name, what, numkeys, ..., terms. Raises CommandError."""
    text = argv[2]
    count = text[0] - 48 if len(text) == 1 and text.isdigit() else integer(text, error)
    if count > len(argv) - 4:
        raise CommandError(TOO_MANY_KEYS)
    if count < 0:
        raise CommandError(NEGATIVE_KEYS)
    return argv[3 : 3 + count], argv[3 + count : -1]


def _seed(ctx: ReadContext | WriteContext) -> Seed:
    """For math.random(), from the entry."""
    ctx.draws += 1
    return Seed(ctx.seed, ctx.draws)


def _final_text(error: ScriptError, name: bytes, t: Terms) -> str:
    text = error.text
    if isinstance(error, OutOfInstructions):
        text = f"ERR Script stopped after script-max-instructions ({t.instructions}) Lua instructions"
    if error.source:
        text += f" script: {name.decode('utf-8', 'surrogateescape')}, on {error.source}:{error.line}."
    return text

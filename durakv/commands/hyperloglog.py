"""PFADD, PFCOUNT, PFMERGE and their debugging commands.

Rule: PFCOUNT is a read and changes nothing, so a count that upstream would cache in the value is computed again; a
cache that came with the value (RESTORE, SET) is used. Layout and arithmetic are in hyperloglog_registers.
"""

from __future__ import annotations

from typing import Final

from durakv.commands import hyperloglog_registers as hll
from durakv.commands.bitmaps import string_at
from durakv.commands.context import NOTIFY_NEW, NOTIFY_STRING, LocalContext, ReadContext, WriteContext
from durakv.commands.spec import Argv, Commands
from durakv.commands.strings_edit import patch
from durakv.commands.table import shown
from durakv.keyspace.keyspace import Db
from durakv.resp.errors import CommandError
from durakv.resp.types import OK, Reply, Simple

COMMANDS: Final = Commands("hyperloglog")

NOT_HLL: Final = "WRONGTYPE Key is not a valid HyperLogLog string value."
CORRUPTED: Final = "INVALIDOBJ Corrupted HLL object detected"
NO_KEY: Final = "ERR The specified key does not exist"
NOT_SPARSE: Final = "ERR HLL encoding is not sparse"

_SELFTEST_ELEMENTS: Final = 10_000
# 1.04 / sqrt(registers) is the standard error; upstream allows six of them.
_SELFTEST_ERROR: Final = 6 * 1.04 / 128


def _sketch_at(db: Db, key: bytes) -> bytes | bytearray | None:
    """The stored value itself, to be read only. Raises CommandError. Source: isHLLObjectOrReply()."""
    text = string_at(db, key)
    if text is not None and not hll.is_hyperloglog(text):
        raise CommandError(NOT_HLL)
    return text


def _registers(text: bytes | bytearray) -> bytes:
    registers = hll.registers_of(text)
    if registers is None:
        raise CommandError(CORRUPTED)
    return registers


def _densified(text: bytes | bytearray) -> bytearray:
    return hll.dense_of(text, _registers(text))


# -- the commands --------------------------------------------------------------------------------------------------


@COMMANDS.write("PFADD", arity=-2, since="2.8.9", flags="denyoom fast", keys="RW|INSERT@i1+r0/1/0",
                complexity="O(1) per element", summary="Adds elements to a HyperLogLog.")  # fmt: skip
def pfadd(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: 1 when a register or the key is new, else 0. Source: hyperloglog.c pfaddCommand()."""
    key = argv[1]
    old = _sketch_at(ctx.db, key)
    if type(old) is bytearray and not hll.is_sparse(old):
        changed = _add_in_place(old, argv)
        if changed:
            ctx.db.touched(key)
    else:
        text = bytearray(hll.EMPTY if old is None else old)
        changed = old is None
        edit = hll.SparseEdit(text)
        for i in range(2, len(argv)):
            index, rank = hll.place_of(argv[i])
            if not hll.is_sparse(text):
                changed = _raise_dense(text, index, rank) or changed
                continue
            result = edit.raise_to(index, rank)
            if result == hll.CORRUPTED:
                raise CommandError(CORRUPTED)
            if result == hll.TOO_LARGE:
                text = _densified(text)
                _raise_dense(text, index, rank)
            changed = changed or result != hll.UNCHANGED
        if changed:
            hll.forget_count(text)
            _store(ctx, key, text)
    if not changed:
        return 0
    if ctx.notify_mask:
        if old is None:
            ctx.notify(NOTIFY_NEW, b"new", key)
        ctx.notify(NOTIFY_STRING, b"pfadd", key)
    return 1


def _store(ctx: WriteContext, key: bytes, text: bytearray) -> None:
    """Kept as a string that was edited, which OBJECT ENCODING calls raw however short it is."""
    ctx.db.put_keep(key, text)


def _raise_dense(text: bytearray, index: int, rank: int) -> bool:
    if hll.dense_get(text, index) >= rank:
        return False
    at, window = hll.dense_window(text, index, rank)
    text[at : at + len(window)] = window
    return True


def _add_in_place(text: bytearray, argv: Argv) -> bool:
    """Add the elements to a stored dense value, leaving the inverse of each change in the journal."""
    changed = False
    for i in range(2, len(argv)):
        index, rank = hll.place_of(argv[i])
        if hll.dense_get(text, index) < rank:
            at, window = hll.dense_window(text, index, rank)
            patch(text, at, window)
            changed = True
    if changed and hll.cached_count(text) >= 0:
        header = bytearray(text[: hll.HEADER_SIZE])
        hll.forget_count(header)
        patch(text, 0, bytes(header))
    return changed


@COMMANDS.read("PFCOUNT", arity=-2, since="2.8.9", flags="may_replicate", keys="RW|ACCESS@i1+r-1/1/0",
               complexity="O(N), N the number of keys",
               summary="Returns the approximate number of elements of one or more HyperLogLogs.")  # fmt: skip
def pfcount(ctx: ReadContext, argv: Argv) -> Reply:
    """Reply: integer, of the union when there are several keys. Source: hyperloglog.c pfcountCommand()."""
    if len(argv) == 2:
        text = _sketch_at(ctx.db, argv[1])
        if text is None:
            return 0
        cached = hll.cached_count(text)
        if cached >= 0:
            return cached
        counts = hll.histogram(text)
        if counts is None:
            raise CommandError(CORRUPTED)
        return hll.estimate(counts)
    registers = bytes(hll.REGISTERS)
    for i in range(1, len(argv)):
        text = _sketch_at(ctx.db, argv[i])
        if text is not None:
            registers = hll.merged(registers, _registers(text))
    return hll.estimate(hll.histogram_of(registers))


@COMMANDS.write("PFMERGE", arity=-2, since="2.8.9", flags="denyoom",
                keys="RW|ACCESS|INSERT@i1+r0/1/0 RO|ACCESS@i2+r-1/1/0", complexity="O(N), N the number of keys",
                summary="Merges HyperLogLogs into one.")  # fmt: skip
def pfmerge(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: OK. Source: hyperloglog.c pfmergeCommand()."""
    key = argv[1]
    registers = bytes(hll.REGISTERS)
    dense = False
    for i in range(1, len(argv)):
        source = _sketch_at(ctx.db, argv[i])
        if source is not None:
            dense = dense or not hll.is_sparse(source)
            registers = hll.merged(registers, _registers(source))
    old = _sketch_at(ctx.db, key)
    text = bytearray(hll.EMPTY if old is None else old)
    if dense or not _raise_all(text, registers):
        # The destination was merged too, so the result has these registers and no others.
        text = hll.dense_of(text, registers)
    hll.forget_count(text)
    _store(ctx, key, text)
    if ctx.notify_mask:
        if old is None:
            ctx.notify(NOTIFY_NEW, b"new", key)
        ctx.notify(NOTIFY_STRING, b"pfadd", key)
    return OK


def _raise_all(text: bytearray, registers: bytes) -> bool:
    """Raise every register of a sparse value; False when it has to become dense."""
    edit = hll.SparseEdit(text)
    for index, rank in enumerate(registers):
        if rank and edit.raise_to(index, rank) == hll.TOO_LARGE:
            return False
    return True


# -- looking inside ------------------------------------------------------------------------------------------------


@COMMANDS.write("PFDEBUG", arity=3, since="2.8.9", flags="denyoom admin", keys="RW|ACCESS@i2+r0/1/0",
                complexity="N/A", summary="Shows or converts the inside of a HyperLogLog.")  # fmt: skip
def pfdebug(ctx: WriteContext, argv: Argv) -> Reply:
    """Reply: by subcommand; GETREG and TODENSE leave a dense value. Source: hyperloglog.c pfdebugCommand()."""
    key = argv[2]
    text = _sketch_at(ctx.db, key)
    if text is None:
        raise CommandError(NO_KEY)
    word = argv[1].upper()
    sparse = hll.is_sparse(text)
    if word == b"GETREG":
        registers = _registers(text)
        if sparse:
            _store(ctx, key, hll.dense_of(text, registers))
        return list(registers)
    if word == b"DECODE":
        if not sparse:
            raise CommandError(NOT_SPARSE)
        return b" ".join([_shown_code(value, run) for value, run in hll.codes(text)])
    if word == b"ENCODING":
        return Simple(b"sparse" if sparse else b"dense")
    if word == b"TODENSE":
        if sparse:
            _store(ctx, key, _densified(text))
        return 1 if sparse else 0
    raise CommandError(f"ERR Unknown PFDEBUG subcommand '{shown(argv[1])}'")


def _shown_code(value: int, run: int) -> bytes:
    if value > 0:
        return b"v:%d,%d" % (value, run)
    return b"%c:%d" % (b"z" if value == 0 else b"Z", run)


@COMMANDS.local("PFSELFTEST", arity=1, since="2.8.9", flags="admin", complexity="N/A",
                summary="Tests registers and estimates of HyperLogLogs.")  # fmt: skip
def pfselftest(ctx: LocalContext, argv: Argv) -> Reply:
    """Reply: OK, or an error that says what is wrong. With fewer elements than upstream's ten million, so that
    other requests need not wait for it longer than for a slow command. Source: hyperloglog.c pfselftestCommand().
    """
    pattern = bytes((i * 37 + (i >> 6)) & 63 for i in range(hll.REGISTERS))
    dense = hll.dense_of(hll.EMPTY, pattern)
    for i, wanted in enumerate(pattern):
        found = hll.dense_get(dense, i)
        if found != wanted:
            raise CommandError(f"TESTFAILED Register {i} should be {wanted} but is {found}")
    dense = hll.dense_of(hll.EMPTY, bytes(hll.REGISTERS))
    sparse = bytearray(hll.EMPTY)
    edit = hll.SparseEdit(sparse)
    checkpoint = 1
    for n in range(1, _SELFTEST_ELEMENTS + 1):
        index, rank = hll.place_of(n.to_bytes(8, "little"))
        _raise_dense(dense, index, rank)
        # Up to here upstream, too, expects the sparse form to do.
        if n < hll.SPARSE_MAX // 2 and edit.raise_to(index, rank) == hll.TOO_LARGE:
            raise CommandError("TESTFAILED sparse encoding not used")
        if n != checkpoint:
            continue
        counts = hll.histogram(dense)
        assert counts is not None
        if n < hll.SPARSE_MAX // 2 and hll.histogram(sparse) != counts:
            raise CommandError("TESTFAILED dense/sparse disagree")
        error = abs(hll.estimate(counts) - n)
        if error > max(_SELFTEST_ERROR * n, 1):
            raise CommandError(f"TESTFAILED Too big error. card:{n} abserr:{error}")
        checkpoint *= 10
    return OK

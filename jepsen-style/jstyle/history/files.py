"""History files: which form one has, reading it, writing any form.

Forms: ``jsonl`` (one operation a line; the first line may be metadata such as ``{"golden": ...}``), ``edn`` (one map a
line, or one vector of maps), ``json`` (an array of operations), ``calls`` (call/return records, see ``call_list``),
``log`` (Jepsen's console output, read only). Rule: the only place of the harness that opens history files.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Final

from jstyle.history import call_list, text_log
from jstyle.history.edn import EdnError, line_of, parse_lines
from jstyle.history.fields import FormatError, in_order, op_from_map, op_to_edn, op_to_map
from jstyle.history.op import HistoryError, Op

JSONL: Final = "jsonl"
EDN: Final = "edn"
JSON: Final = "json"
CALLS: Final = "calls"
LOG: Final = "log"
WRITTEN: Final = (JSONL, EDN, JSON, CALLS)

_SUFFIXES: Final = {".jsonl": JSONL, ".edn": EDN, ".json": JSON, ".calls": CALLS, ".log": LOG}


class Recorded:
    """A history as a file had it. ``meta`` is the first line of a JSONL file when that is no operation, else empty."""

    __slots__ = ("form", "meta", "ops")

    def __init__(self, ops: list[Op], form: str, meta: dict[str, object]) -> None:
        self.ops = ops
        self.form = form
        self.meta = meta


def form_of(name: str, text: str) -> str:
    """The form of a file by its suffix and, where that does not decide, by how its text begins."""
    suffix = Path(name).suffix.lower()
    begin = text.lstrip("\ufeff \t\r\n")[:4000]
    if suffix in {".edn", ".log"}:
        return _SUFFIXES[suffix]
    if begin[:1] in {"{", "["}:
        inside = begin.lstrip("[{( \t\r\n,")
        if inside[:1] == ":" or begin[:2] == "[#":
            return EDN
        return JSON if begin[:1] == "[" else JSONL
    if begin[:1] in {"#", ";", "("}:
        return EDN
    if begin and text_log.looks_like(text):
        return LOG
    return _SUFFIXES.get(suffix, JSONL)


def load(path: Path) -> Recorded:
    """The history in the file. Raises HistoryError, with a line number, for what is no history; OSError as it comes."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise FormatError(line, f"not UTF-8 text: byte {error.start} of the file") from error
    return loads(text, form_of(path.name, text))


def read(path: Path) -> list[Op]:
    """The operations of the file, see ``load``."""
    return load(path).ops


def loads(text: str, form: str) -> Recorded:
    """The history in ``text``, which has the given form."""
    if form == EDN:
        return Recorded(_from_edn(text), EDN, {})
    if form == LOG:
        return Recorded(text_log.ops_from_log(text), LOG, {})
    records = _array(text) if form in {JSON, CALLS} and text.lstrip()[:1] == "[" else _lines(text)
    first = next(records, None)
    meta: dict[str, object] = {}
    if first is not None and isinstance(first[0], Mapping) and "golden" in first[0]:
        meta = dict(first[0])
        first = next(records, None)
    if first is None:
        return Recorded([], form, meta)
    if call_list.looks_like(first[0]):
        return Recorded(call_list.ops_from_records([first, *records]), CALLS, meta)
    ops: list[Op] = []
    lines: list[int] = []
    for fields, line in [first, *records]:
        ops.append(op_from_map(fields, len(ops), line))
        lines.append(line)
    return Recorded(in_order(ops, lines), form, meta)


def _lines(text: str) -> Iterator[tuple[object, int]]:
    decode = json.loads
    for number, line in enumerate(text.split("\n"), 1):
        if not line or line.isspace():
            continue
        try:
            yield decode(line), number
        except json.JSONDecodeError as error:
            raise FormatError(number, f"not JSON: {error.msg} at column {error.colno}") from error
        except (ValueError, RecursionError) as error:
            raise FormatError(number, f"not usable JSON: {error}") from error


def _array(text: str) -> Iterator[tuple[object, int]]:
    """The elements of a JSON array, each with its line."""
    decoder = json.JSONDecoder()
    at = text.index("[") + 1
    line = text.count("\n", 0, at) + 1
    counted = at
    while True:
        while text[at : at + 1] in {" ", "\t", "\r", "\n", ","}:
            at += 1
        line += text.count("\n", counted, at)
        counted = at
        if text[at : at + 1] == "]":
            if text[at + 1 :].strip():
                raise FormatError(line, "text after the end of the array")
            return
        try:
            value, at = decoder.raw_decode(text, at)
        except json.JSONDecodeError as error:
            what = "the array is never closed" if at >= len(text) else f"not JSON: {error.msg}"
            raise FormatError(error.lineno, what) from error
        except (ValueError, RecursionError) as error:
            raise FormatError(line, f"not usable JSON: {error}") from error
        yield value, line


def _from_edn(text: str) -> list[Op]:
    try:
        forms = parse_lines(text)
    except EdnError as error:
        raise FormatError(error.line, str(error)) from error
    if len(forms) == 1 and isinstance(forms[0][0], list):
        forms = [(form, forms[0][1]) for form in forms[0][0]]
    tokens = [token for _, token in forms]
    try:
        return in_order([op_from_map(form, at, token) for at, (form, token) in enumerate(forms)], tokens)
    except FormatError as error:
        raise FormatError(line_of(text, error.line), error.what) from error


def form_for(path: Path) -> str:
    """The form to write by the name of a file. Raises HistoryError for a name that says nothing."""
    form = _SUFFIXES.get(path.suffix.lower())
    if form is None or form not in WRITTEN:
        raise HistoryError(f"{path.name}: name the file .jsonl, .edn, .json or .calls to say which form to write")
    return form


def dumps(ops: Iterable[Op], form: str) -> str:
    """The history as text in the given form."""
    if form == EDN:
        return "".join([op_to_edn(op) + "\n" for op in ops])
    encode = json.JSONEncoder(separators=(",", ":"), ensure_ascii=False, default=str).encode
    if form == CALLS:
        return "".join([encode(record) + "\n" for record in call_list.records_from_ops(ops)])
    rows = [encode(op_to_map(op)) for op in ops]
    if form == JSON:
        return "[" + ",\n".join(rows) + "]\n"
    return "".join([row + "\n" for row in rows])


def write(path: Path, ops: Iterable[Op], form: str | None = None) -> None:
    """Write the history; the form follows the file's name unless it is given."""
    path.write_text(dumps(ops, form or form_for(path)), encoding="utf-8")

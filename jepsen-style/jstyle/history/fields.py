"""The fields of an operation in a map, as JSON and EDN histories both write them.

Rule: the only place that knows field names and how lenient to be with foreign histories: a missing ``time`` is -1, a
missing ``index`` is the position, keywords and strings are the same, unknown fields are dropped.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from jstyle.history.edn import Keyword, dump
from jstyle.history.op import TYPES, HistoryError, Op


class FormatError(HistoryError):
    """A history file that cannot be read; the text begins with the line number."""

    def __init__(self, line: int, text: str) -> None:
        super().__init__(f"line {line}: {text}")
        self.line = line
        self.what = text


def op_from_map(fields: object, position: int, line: int) -> Op:
    """The operation a map describes; ``position`` is its index if it names none. Raises FormatError."""
    if not isinstance(fields, Mapping):
        raise FormatError(line, f"an operation must be a map, not {_short(fields)}")
    get = fields.get
    type_ = get("type")
    if type_ not in TYPES:
        type_ = type_[1:] if isinstance(type_, str) and type_[:1] == ":" else type_
        if type_ not in TYPES:
            raise FormatError(line, f"type must be one of {', '.join(TYPES)}, not {_short(type_)}")
    process = get("process")
    if type(process) is not int:
        if not isinstance(process, str):
            raise FormatError(line, f"process must be a number or a name, not {_short(process)}")
        process = str(process.removeprefix(":"))
        if process.isdecimal():
            process = int(process)
    name = get("f")
    if name is None:
        name = "nil"
    elif not isinstance(name, str):
        raise FormatError(line, f"f must be a word, not {_short(name)}")
    index = get("index", position)
    time = get("time", -1)
    if type(index) is not int or index < 0:
        raise FormatError(line, f"index must be a whole number from 0, not {_short(index)}")
    if type(time) is not int:
        time = _nanoseconds(time, line)
    return Op(
        index,
        time,
        process,
        str(type_),
        str(name.removeprefix(":")),
        get("value"),
        _text(get("error")),
        get("key"),
        _text(get("node")),
        _text(get("req")),
    )


def op_to_map(op: Op) -> dict[str, object]:
    """The JSON-like map of an operation; optional fields appear only when they are set."""
    fields: dict[str, object] = {
        "index": op.index,
        "time": op.time,
        "process": op.process,
        "type": op.type,
        "f": op.f,
        "value": op.value,
    }
    optional = (("error", op.error), ("key", op.key), ("node", op.node), ("req", op.req))
    fields.update({name: value for name, value in optional if value is not None})
    return fields


def op_to_edn(op: Op) -> str:
    """The operation as one EDN map on a line: field names, type, f, named processes and micro-op names are keywords."""
    fields = op_to_map(op)
    fields["type"] = Keyword(op.type)
    fields["f"] = Keyword(op.f)
    if isinstance(op.process, str):
        fields["process"] = Keyword(op.process)
    fields["value"] = _micro_ops(op.value)
    return dump({Keyword(name): value for name, value in fields.items()})


def _micro_ops(value: object) -> object:
    """Micro-operations with their names as keywords; every other value as it is."""
    if not isinstance(value, list | tuple) or not value:
        return value
    for micro in value:
        if not isinstance(micro, list | tuple) or len(micro) < 2 or not isinstance(micro[0], str):
            return value
    return [[Keyword(micro[0]), *micro[1:]] for micro in value]


def in_order(ops: Iterable[Op], lines: Iterable[int]) -> list[Op]:
    """The operations, after checking that indexes rise. Raises FormatError."""
    found: list[Op] = []
    last = -1
    for op, line in zip(ops, lines, strict=True):
        if op.index <= last:
            raise FormatError(line, f"index {op.index} does not follow {last}; indexes must rise through the file")
        last = op.index
        found.append(op)
    return found


def _nanoseconds(time: object, line: int) -> int:
    if time is None:
        return -1
    if isinstance(time, float) and abs(time) < 2**63:
        return int(time)
    raise FormatError(line, f"time must be a number of nanoseconds, not {_short(time)}")


def _text(value: object) -> str | None:
    if value is None:
        return None
    return str(value) if isinstance(value, str) else dump(value)


def _short(value: object) -> str:
    try:
        text = dump(value)
    except TypeError:
        text = type(value).__name__
    return text if len(text) <= 60 else text[:57] + "..."

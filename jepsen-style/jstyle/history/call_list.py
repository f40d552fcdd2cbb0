"""Call/return lists: the form Porcupine takes and etcd's robustness tests leave, one record per call and not per event.

A record is ``{"client": 3, "call": 1000, "return": 2000, "input": {"f": "write", "key": "x", "value": 5}, "output":
null, "type": "ok"}``. Times are nanoseconds of one clock. Names are matched without regard to case, and ``ClientId``,
``Call``, ``Return``, ``Input``, ``Output`` are understood. A call with no return, or type ``info``, may have happened.

Rule: the only place where order comes from time stamps. At equal times calls come before returns, so calls that touch
count as concurrent: a clock too coarse to tell must never accuse the system.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Final

from jstyle.history.fields import FormatError
from jstyle.history.op import FAIL, INFO, INVOKE, OK, TYPES, Op, calls

_NEVER: Final = (1 << 63) - 1
_CALL: Final = 0
_RETURN: Final = 1


class _Record:
    __slots__ = ("call_ns", "client", "f", "key", "line", "output", "return_ns", "type", "value")

    def __init__(self, fields: Mapping[str, object], line: int) -> None:
        self.line = line
        self.client = _whole(fields, ("client", "clientid", "process"), line)
        self.call_ns = _whole(fields, ("call", "callns"), line)
        ended = _first(fields, ("return", "returnns"))
        self.return_ns = _NEVER if ended is None else _whole(fields, ("return", "returnns"), line)
        given = fields.get("input")
        if not isinstance(given, Mapping) or not isinstance(given.get("f"), str):
            raise FormatError(line, 'input must be a map with a word "f"')
        self.f: str = given["f"]
        self.key = given.get("key")
        self.value = given.get("value")
        self.output = fields.get("output")
        type_ = fields.get("type")
        if type_ is None:
            type_ = INFO if self.return_ns >= _NEVER else OK
        if type_ not in TYPES or type_ == INVOKE:
            raise FormatError(line, "type must be ok, fail or info")
        self.type = str(type_)
        if self.return_ns < self.call_ns:
            raise FormatError(line, f"returns at {self.return_ns}, before its call at {self.call_ns}")


def _first(fields: Mapping[str, object], names: Sequence[str]) -> object:
    for name in names:
        if name in fields:
            return fields[name]
    return None


def _whole(fields: Mapping[str, object], names: Sequence[str], line: int) -> int:
    value = _first(fields, names)
    if type(value) is not int:
        raise FormatError(line, f"{names[0]} must be a whole number")
    return value


def looks_like(fields: object) -> bool:
    """Whether a JSON value is a record of a call/return list."""
    if not isinstance(fields, Mapping):
        return False
    names = {str(name).lower() for name in fields}
    return "call" in names and "input" in names


def ops_from_records(records: Iterable[tuple[object, int]]) -> list[Op]:
    """The history that (record, line) pairs describe. Clients that overlap themselves become several processes."""
    read: list[_Record] = []
    for fields, line in records:
        if not isinstance(fields, Mapping):
            raise FormatError(line, "a record must be a map")
        read.append(_Record({str(name).lower(): value for name, value in fields.items()}, line))
    events: list[tuple[int, int, int]] = []
    for number, record in enumerate(read):
        events.append((record.call_ns, _CALL, number))
        if record.return_ns < _NEVER:
            events.append((record.return_ns, _RETURN, number))
    events.sort()
    return _number(read, events)


def _number(records: list[_Record], events: list[tuple[int, int, int]]) -> list[Op]:
    begin = events[0][0] if events else 0
    processes: dict[int, int] = {}
    free: dict[int, list[int]] = {}
    stride = max([record.client for record in records], default=0) + 1
    extra = stride
    history: list[Op] = []
    for at_ns, side, number in events:
        record = records[number]
        if side == _CALL:
            idle = free.setdefault(record.client, [record.client])
            if not idle:
                idle.append(extra)
                extra += 1
            process = processes[number] = idle.pop()
            op = Op(len(history), at_ns - begin, process, INVOKE, record.f, record.value, key=record.key)
        else:
            process = processes[number]
            # A process whose call stayed in doubt is retired, as a crashed Jepsen process is.
            if record.type != INFO:
                free[record.client].append(process)
            value = record.value if record.output is None and record.type != OK else record.output
            op = Op(len(history), at_ns - begin, process, record.type, record.f, value, key=record.key)
        history.append(op)
    return history


def records_from_ops(history: Iterable[Op]) -> list[dict[str, object]]:
    """The records of a history's client calls in order of invocation; times missing from it become indexes."""
    ops = list(history)
    timed = all(op.time >= 0 for op in ops)
    records: list[dict[str, object]] = []
    for call in calls(ops):
        start, done = call.start, call.done
        returned: int | None = None
        if done is not None and done.type in {OK, FAIL}:
            returned = done.time if timed else done.index
        records.append({
            "client": start.process,
            "call": start.time if timed else start.index,
            "return": returned,
            "input": {"f": start.f, "key": start.key, "value": start.value},
            "output": done.value if done is not None and done.type == OK else None,
            "type": call.outcome,
        })  # fmt: skip
    return records

"""Jepsen's console log as a history: lines such as ``INFO jepsen.util - 4<TAB>:invoke<TAB>:write<TAB>4``.

Rule: lines that are no operations are passed over; a line that begins like one and cannot be read is an error. A time
out is logged as ``:info``, its text after the value becomes the error.
"""

from __future__ import annotations

import re
from typing import Final

from jstyle.history.edn import EdnError, parse
from jstyle.history.fields import FormatError, op_from_map
from jstyle.history.op import HistoryError, Op

_LINE: Final = re.compile(r"(?:^|[-\s])(:?[A-Za-z_]\w*|\d+)\s+:(invoke|ok|fail|info)\s+:([^\s]+)(?:\s+(.*))?$")


def looks_like(text: str) -> bool:
    """Whether some early line is an operation as Jepsen logs it."""
    return any(_LINE.search(line) for line in text[:20000].splitlines()[:100])


def ops_from_log(text: str) -> list[Op]:
    """The operations among the lines of a console log. Raises FormatError."""
    found: list[Op] = []
    for number, line in enumerate(text.splitlines(), 1):
        match = _LINE.search(line)
        if match is None:
            continue
        process, type_, name, rest = match.groups()
        try:
            forms = parse(rest or "nil")
        except EdnError as error:
            raise FormatError(number, f"value of the operation: {error}") from error
        fields: dict[str, object] = {
            "process": process,
            "type": type_,
            "f": name,
            "value": forms[0] if forms else None,
            "error": forms[1] if len(forms) > 1 else None,
        }
        found.append(op_from_map(fields, len(found), number))
    if not found:
        raise HistoryError("no line of this log is an operation")
    return found

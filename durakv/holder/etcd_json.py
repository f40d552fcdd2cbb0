"""etcd 3's requests and replies as its JSON gateway has them: bytes in base64, 64-bit numbers as strings.

Rule: the only place that knows that notation. Every reading is total; it raises ReplyError for what it does not
understand. Must not know what is kept under a key.
"""

from __future__ import annotations

import json
from base64 import b64decode, b64encode
from binascii import Error as Base64Error
from typing import Any, Final

RANGE: Final = "/v3/kv/range"
TXN: Final = "/v3/kv/txn"
GRANT: Final = "/v3/lease/grant"
KEEP_ALIVE: Final = "/v3/lease/keepalive"
AUTHENTICATE: Final = "/v3/auth/authenticate"

Json = dict[str, Any]

# gRPC codes of errors after which the request had no effect and never will. "Resource exhausted" is none of them: the
# write that exceeds etcd's space is carried out and answered so.
INVALID_ARGUMENT: Final = 3
NOT_FOUND: Final = 5
PERMISSION_DENIED: Final = 7
UNAUTHENTICATED: Final = 16
DEFINITE: Final = (INVALID_ARGUMENT, NOT_FOUND, PERMISSION_DENIED, UNAUTHENTICATED)


class ReplyError(Exception):
    """The reply is not one of etcd's gateway."""


class Found:
    """A key's value. ``lease`` is 0 for none."""

    __slots__ = ("lease", "mod_revision", "value")

    def __init__(self, value: bytes, mod_revision: int, lease: int) -> None:
        self.value = value
        self.mod_revision = mod_revision
        self.lease = lease


def text(data: bytes) -> str:
    """Bytes in a request."""
    return b64encode(data).decode()


def get(key: bytes) -> Json:
    """A linearizable range of one key, as an operation of a transaction or the body of a RANGE."""
    return {"key": text(key)}


def put(key: bytes, value: bytes, lease: int = 0) -> Json:
    """An operation of a transaction."""
    return {"request_put": {"key": text(key), "value": text(value), "lease": str(lease)}}


def absent(key: bytes) -> Json:
    """A comparison: there is no such key."""
    return {"key": text(key), "target": "CREATE", "result": "EQUAL", "create_revision": "0"}


def unchanged(key: bytes, mod_revision: int) -> Json:
    """A comparison: the key was not written since."""
    return {"key": text(key), "target": "MOD", "result": "EQUAL", "mod_revision": str(mod_revision)}


def held_by(key: bytes, lease: int) -> Json:
    """A comparison: the key is there, under that lease."""
    return {"key": text(key), "target": "LEASE", "result": "EQUAL", "lease": str(lease)}


def txn(compare: list[Json], success: list[Json], otherwise: list[bytes]) -> Json:
    """A transaction that gets the keys ``otherwise`` when a comparison fails."""
    return {
        "compare": compare, "success": success, "failure": [{"request_range": get(key)} for key in otherwise],
    }  # fmt: skip


def parse(body: bytes) -> Json:
    """A reply's document."""
    try:
        document = json.loads(body)
    except ValueError as e:
        raise ReplyError(f"no JSON: {e}") from None
    if not isinstance(document, dict):
        raise ReplyError("no JSON object")
    return document


def error_of(body: bytes) -> tuple[int, str]:
    """(gRPC code, text) of a reply that is no success; the code is -1 when it says none."""
    try:
        document = parse(body)
    except ReplyError:
        return -1, body[:200].decode("utf-8", "replace")
    inner = document.get("error")
    if isinstance(inner, dict):
        # In a stream.
        document = inner
    code = document.get("code", document.get("grpc_code"))
    said = document.get("message") or document.get("error") or ""
    return code if isinstance(code, int) else -1, str(said)[:200]


def found(document: Json) -> Found | None:
    """The one key of a range's reply; None when there is none."""
    rows = document.get("kvs", [])
    if not isinstance(rows, list) or len(rows) > 1 or not all(isinstance(row, dict) for row in rows):
        raise ReplyError("kvs is no list of at most one key")
    if not rows:
        return None
    row = rows[0]
    try:
        value = b64decode(row.get("value", ""), validate=True)
    except (Base64Error, TypeError, ValueError) as e:
        raise ReplyError(f"a value is not base64: {e}") from None
    return Found(value, number(row, "mod_revision"), number(row, "lease"))


def txn_reply(document: Json) -> tuple[bool, list[Found | None]]:
    """(whether the comparisons held, what was got, in order)."""
    got: list[Found | None] = []
    rows = document.get("responses", [])
    if not isinstance(rows, list):
        raise ReplyError("responses is no list")
    for row in rows:
        if not isinstance(row, dict):
            raise ReplyError("a response is no object")
        if "response_range" in row:
            inner = row["response_range"]
            if not isinstance(inner, dict):
                raise ReplyError("a range is no object")
            got.append(found(inner))
    return document.get("succeeded") is True, got


def number(row: Json, name: str) -> int:
    """A 64-bit number; one that is missing is 0."""
    value = row.get(name, 0)
    try:
        return int(value)
    except (TypeError, ValueError):
        raise ReplyError(f"{name} is no number") from None

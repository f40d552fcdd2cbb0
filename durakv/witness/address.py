"""Where a witness is: ``tcp://host:port``, ``file:///absolute/path`` or ``s3://bucket/prefix[?endpoint=..&region=..]``.

Rule: the only place that reads or writes such an address. Its text holds no space and no control character, so it can
be the last word of a line of an address book. It must not know how a witness is reached.
"""

from __future__ import annotations

from typing import Final
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

TCP: Final = "tcp"
FILE: Final = "file"
S3: Final = "s3"
_EXPECTED: Final = "expected tcp://host:port, file:///absolute/path or s3://bucket/prefix[?endpoint=URL&region=NAME]"
TEXT_MAX: Final = 1024


class WitnessAddress:
    """One address. ``host`` and ``port`` for tcp, ``path`` (the directory) for file, the rest for s3; else empty."""

    __slots__ = ("bucket", "endpoint", "host", "path", "port", "prefix", "region", "scheme")

    def __init__(
        self,
        scheme: str,
        *,
        host: str = "",
        port: int = 0,
        path: str = "",
        bucket: str = "",
        prefix: str = "",
        endpoint: str = "",
        region: str = "",
    ) -> None:
        self.scheme = scheme
        self.host = host
        self.port = port
        self.path = path
        self.bucket = bucket
        self.prefix = prefix
        self.endpoint = endpoint
        self.region = region

    @staticmethod
    def parse(text: str) -> WitnessAddress:
        """The address; raises ValueError with a line for the operator."""
        if len(text) > TEXT_MAX or any(c.isspace() or not c.isprintable() for c in text):
            raise ValueError(f"invalid witness address: it has spaces or is longer than {TEXT_MAX}; {_EXPECTED}")
        scheme, separator, rest = text.partition("://")
        try:
            if separator and scheme == TCP:
                return _tcp(rest)
            if separator and scheme == FILE:
                return _file(rest)
            if separator and scheme == S3:
                return _s3(text)
        except ValueError as e:
            raise ValueError(f"invalid witness address '{text}': {e}; {_EXPECTED}") from None
        raise ValueError(f"invalid witness address '{text}': {_EXPECTED}")

    def text(self) -> str:
        """The canonical text; parse() of it gives this address again."""
        if self.scheme == TCP:
            host = f"[{self.host}]" if ":" in self.host else self.host
            return f"{TCP}://{host}:{self.port}"
        if self.scheme == FILE:
            return f"{FILE}://{quote(self.path)}"
        query = urlencode([(k, v) for k, v in (("endpoint", self.endpoint), ("region", self.region)) if v])
        return f"{S3}://{self.bucket}/{quote(self.prefix)}" + (f"?{query}" if query else "")

    def __str__(self) -> str:
        return self.text()

    def __repr__(self) -> str:
        return f"WitnessAddress({self.text()!r})"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, WitnessAddress) and self.text() == other.text()

    def __hash__(self) -> int:
        return hash(self.text())


def host_and_port(text: str, port_min: int = 1) -> tuple[str, int]:
    """``host:port`` or ``[v6 literal]:port``; raises ValueError."""
    host, _, port_text = text.rpartition(":")
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError("an IPv6 address stands in brackets")
    if not host or any(c in host for c in "/?#@[]"):
        raise ValueError(f"'{text}' is not host:port")
    if not (port_text.isascii() and port_text.isdecimal() and port_min <= int(port_text) < 65536):
        raise ValueError(f"'{port_text}' is not a port")
    return host, int(port_text)


def _tcp(rest: str) -> WitnessAddress:
    host, port = host_and_port(rest)
    return WitnessAddress(TCP, host=host, port=port)


def _file(rest: str) -> WitnessAddress:
    path = unquote(rest, errors="strict")
    if "?" in rest or "#" in rest or "\x00" in path:
        raise ValueError("the path has a character that must be written as %xx, or a zero byte")
    if not path.startswith("/") or path.startswith("//"):
        raise ValueError("the path is not absolute")
    names = path.rstrip("/").split("/")[1:]
    if not names or any(name in ("", ".", "..") for name in names):
        raise ValueError("the path is the root or has an empty, '.' or '..' component")
    return WitnessAddress(FILE, path="/" + "/".join(names))


def _s3(text: str) -> WitnessAddress:
    parts = urlsplit(text)
    options = dict(parse_qsl(parts.query, strict_parsing=True)) if parts.query else {}
    for name in options:
        if name not in ("endpoint", "region"):
            raise ValueError(f"unknown option '{name}'")
    bucket = parts.netloc
    if not bucket or any(c in bucket for c in ":@[]%") or parts.fragment:
        raise ValueError("no bucket, or credentials in the address (they belong in the environment)")
    prefix = unquote(parts.path, errors="strict").strip("/")
    endpoint = options.get("endpoint", "")
    if endpoint and (urlsplit(endpoint).scheme not in ("http", "https") or "@" in endpoint):
        raise ValueError("the endpoint is not an http or https URL")
    return WitnessAddress(S3, bucket=bucket, prefix=prefix, endpoint=endpoint, region=options.get("region", ""))

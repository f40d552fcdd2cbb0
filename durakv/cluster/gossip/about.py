"""What only a node itself knows of how clients should see it, for its leader, who describes the whole group.

Rule: bytes in, bytes out; what cannot be carried by gossip is left out here, so that it never gets there.
"""

from __future__ import annotations

from struct import Struct
from typing import Final

from durakv.cluster.gossip.codec import is_name

_ABOUT: Final = Struct("<HBB")


class About:
    """``tls_port`` 0: there is none. Names that gossip cannot carry, with blanks for example, become empty."""

    __slots__ = ("hostname", "tls_port", "zone")

    def __init__(self, tls_port: int = 0, hostname: str = "", zone: str = "") -> None:
        self.tls_port = tls_port
        self.hostname = hostname if is_name(hostname) else ""
        self.zone = zone if is_name(zone) else ""

    def key(self) -> tuple[int, str, str]:
        """Equal for equal content."""
        return (self.tls_port, self.hostname, self.zone)

    def encode(self) -> bytes:
        """See decode_about()."""
        hostname, zone = self.hostname.encode(), self.zone.encode()
        return _ABOUT.pack(self.tls_port, len(hostname), len(zone)) + hostname + zone


def decode_about(data: bytes) -> About:
    """Raises ValueError or struct.error for bytes that encode() did not make."""
    tls_port, hostname_size, zone_size = _ABOUT.unpack_from(data)
    if len(data) != _ABOUT.size + hostname_size + zone_size:
        raise ValueError(f"{len(data)} bytes of what a node says of itself")
    hostname = data[_ABOUT.size : _ABOUT.size + hostname_size].decode("ascii")
    zone = data[_ABOUT.size + hostname_size :].decode("ascii")
    return About(tls_port, hostname, zone)

"""The address book of a group: where each member listens. Travels as the opaque context of a membership entry.

Text, one member a line: ``node_id host client_port peer_port``, or ``node_id witness address`` with the address as
WitnessAddress writes it. Hosts are names or literals without spaces. A group of several begins with a line of its own,
``group group_id slots``: the slots it was founded with, as ``first-last,first-last`` or ``none``. One of lease mode has
a line ``mode lease min_isr``; without it the mode is Raft's.
"""

from __future__ import annotations

from typing import Final

from durakv.resp.errors import CommandError

_WITNESS: Final = "witness"
_GROUP: Final = "group"
_NO_SLOTS: Final = "none"
_LEASE: Final = "mode lease"


class Address:
    """One member's host and its client and peer ports."""

    __slots__ = ("client_port", "host", "peer_port")

    def __init__(self, host: str, client_port: int, peer_port: int) -> None:
        self.host = host
        self.client_port = client_port
        self.peer_port = peer_port


class Founding:
    """Which group of several this is, and the slots it owned when it was founded: pairs of first and last."""

    __slots__ = ("group", "slots")

    def __init__(self, group: int, slots: list[tuple[int, int]]) -> None:
        self.group = group
        self.slots = slots

    def line(self) -> str:
        """As in the address book."""
        return f"{_GROUP} {self.group} {','.join(f'{a}-{b}' for a, b in self.slots) or _NO_SLOTS}"


def encode(
    book: dict[int, Address], witness: tuple[int, str] | None = None, founding: Founding | None = None, min_isr: int = 0
) -> bytes:
    """Bytes for a membership's context: full members in order of id, then the witness (its id and address).

    ``min_isr``: in-sync members a shard of lease mode was founded to demand; 0 in Raft mode.
    """
    lines = [] if founding is None else [founding.line()]
    if min_isr:
        lines.append(f"{_LEASE} {min_isr}")
    lines += [f"{n} {book[n].host} {book[n].client_port} {book[n].peer_port}" for n in sorted(book)]
    if witness is not None:
        lines.append(f"{witness[0]} {_WITNESS} {witness[1]}")
    return "\n".join(lines).encode()


def decode(context: bytes) -> dict[int, Address]:
    """The full members of encode(). Raises ValueError."""
    book: dict[int, Address] = {}
    for line in context.decode().splitlines():
        if _witness_line(line) is None and not line.startswith((_GROUP + " ", _LEASE + " ")):
            node_id, host, client_port, peer_port = line.split(" ")
            book[int(node_id)] = Address(host, int(client_port), int(peer_port))
    return book


def decode_witness(context: bytes) -> tuple[int, str] | None:
    """The witness of encode(): its id and address. Raises ValueError."""
    for line in context.decode().splitlines():
        found = _witness_line(line)
        if found is not None:
            return found
    return None


def decode_founding(context: bytes) -> Founding | None:
    """The group of encode(), None where the cluster has but one. Raises ValueError."""
    first = context.decode().partition("\n")[0].split(" ")
    if first[0] != _GROUP:
        return None
    _, group, slots = first
    runs: list[tuple[int, int]] = []
    if slots != _NO_SLOTS:
        for run in slots.split(","):
            low, high = run.split("-")
            runs.append((int(low), int(high)))
    return Founding(int(group), runs)


def decode_min_isr(context: bytes) -> int:
    """What encode() was told: 0 for a group of Raft mode. Raises ValueError."""
    for line in context.decode().splitlines():
        if line.startswith(_LEASE + " "):
            return int(line.removeprefix(_LEASE))
    return 0


def _witness_line(line: str) -> tuple[int, str] | None:
    words = line.split(" ", 2)
    # A host may be called so as well; only an address has a scheme.
    if len(words) == 3 and words[1] == _WITNESS and "://" in words[2]:
        return int(words[0]), words[2]
    return None


def parse(text: str) -> Address:
    """``host:port`` or ``host:port@peer_port`` (default port + 10000). Raises CommandError."""
    host, _, ports = text.rpartition(":")
    port, _, peer = ports.partition("@")
    try:
        client_port = int(port)
        peer_port = int(peer) if peer else client_port + 10000
    except ValueError:
        raise CommandError(f"ERR invalid address '{text}', expected host:port@peer-port") from None
    if not host or " " in host or not 0 < client_port < 65536 or not 0 < peer_port < 65536:
        raise CommandError(f"ERR invalid address '{text}', expected host:port@peer-port with ports below 65536")
    return Address(host, client_port, peer_port)

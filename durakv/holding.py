"""Connects a data node of lease mode to its config holder: an embedded one with a member in this process, or etcd.

Rule: the only code that knows both the node's link and which holders there are. A member that lives in a data node has
the node's id, its files in ``<dir>/holder`` and a port of its own.
"""

from __future__ import annotations

from collections.abc import Callable

from durakv.config.settings import Settings
from durakv.observe.events import Notice, Observer
from durakv.replication.lease_holder import HolderLink
from durakv.server.listener import explained
from durakv.storage.identity import Identity
from durakv.world.ports import Clock, Disk, Network, Rng

# What of the core's patience a call may use, so that "was not sent" arrives before it is sent again.
_PATIENCE = (4, 5)
# What the network calls the TLS context made of the holder-etcd- directives.
ETCD_TLS = "holder-etcd"
NO_HOLDER = (
    "replication-mode lease needs a config holder: name its members with holder-members (as 'durakv cluster up --mode "
    "lease' does), or an etcd with holder-etcd"
)


def holder_directory(directory: str) -> str:
    """Where a member that lives in the node of that data directory keeps its file."""
    return f"{directory.rstrip('/')}/holder"


def found_holder(disk: Disk, directories: dict[int, str], cluster_id: bytes, members: tuple[int, ...]) -> None:
    """Make the files of the members that live in data nodes, by node id the data directory; once, before any starts.

    ``members``: all of them, an arbiter too, whose own process makes its file. Raises StorageError, OSError.
    """
    # Only lease mode needs it.
    from durakv.holder.member import found_member

    for node_id, directory in directories.items():
        if node_id in members:
            found_member(disk, holder_directory(directory), cluster_id, node_id, members)


class Ports:
    """What a holder is given of the node's world; ``disk`` is a lane of the member's own."""

    def __init__(self, clock: Clock, rng: Rng, disk: Disk, network: Network) -> None:
        self.clock = clock
        self.rng = rng
        self.disk = disk
        self.network = network


def connect_holder(
    ports: Ports, settings: Settings, identity: Identity, patience_ms: int, link: HolderLink, observer: Observer,
    fatal: Callable[[OSError], None],
) -> None:  # fmt: skip
    """Give ``link`` its port. Raises ValueError, StorageError, or OSError (the member's port)."""
    refuse_etcd_settings(settings)
    part, of = _PATIENCE
    timeout_ms = patience_ms * part // of
    if settings.holder_etcd:
        _connect_etcd(ports, settings, identity, timeout_ms, link)
        return
    if not settings.holder_members:
        raise ValueError(NO_HOLDER)
    # Only a node of lease mode needs it.
    from durakv.holder.address import parse_members
    from durakv.holder.client import HolderClient
    from durakv.holder.member import HolderMember, member_exists

    members = parse_members(list(settings.holder_members))
    member: HolderMember | None = None
    directory = holder_directory(str(settings.dir))
    mine = identity.node_id
    if mine in members:
        if not member_exists(ports.disk, directory):
            raise ValueError(
                f"{directory}: holder-members lists node {mine}, but its member's file is not there; a member that "
                "forgot its votes must not come back under its id: put the file back, or take its place with 'durakv "
                "arbiter' under a new id"
            )
        member = HolderMember(
            ports.clock, ports.rng, ports.disk, ports.network, directory, identity.cluster_id, mine, members,
            lambda text: observer.event(Notice("holder", text)), fatal,
        )  # fmt: skip
        host, port = members[mine]
        try:
            member.open(host, port)
        except OSError as e:
            raise explained(e, host, port, "holder-members") from None
    client = HolderClient(
        ports.clock, ports.network, identity.cluster_id, mine, members, link.answered, timeout_ms, member
    )

    def end() -> None:
        client.close()
        if member is not None:
            member.close(_closed)

    link.port, link.end = client, end
    link.rows = lambda: list(client.health().rows())


def refuse_etcd_settings(settings: Settings) -> None:
    """Raises ValueError for directives of an etcd that do not go together."""
    user, password = str(settings.holder_etcd_user), str(settings.holder_etcd_password)
    if bool(user) != bool(password):
        raise ValueError(
            "holder-etcd-user and holder-etcd-password go together; set both, or neither where the etcd has no "
            "authentication on"
        )
    cert, key = str(settings.holder_etcd_cert_file), str(settings.holder_etcd_key_file)
    if key and not cert:
        raise ValueError("holder-etcd-key-file is the key of holder-etcd-cert-file; set that too")
    if not settings.holder_etcd_tls and (settings.holder_etcd_ca_file or cert):
        raise ValueError("files for TLS are set, and holder-etcd-tls is no; set holder-etcd-tls yes, or leave them out")
    named = user or settings.holder_etcd_tls
    if named and not settings.holder_etcd:
        raise ValueError("holder-etcd-user or holder-etcd-tls is set, but no etcd; name one with holder-etcd host:port")


def _connect_etcd(ports: Ports, settings: Settings, identity: Identity, timeout_ms: int, link: HolderLink) -> None:
    # Only a node that uses etcd needs it.
    from durakv.holder.etcd import EtcdHolder, EtcdOptions

    options = EtcdOptions(
        list(settings.holder_etcd), str(settings.holder_etcd_prefix), str(settings.holder_etcd_user),
        str(settings.holder_etcd_password), ETCD_TLS if settings.holder_etcd_tls else None, timeout_ms,
    )  # fmt: skip
    etcd = EtcdHolder(ports.clock, ports.network, options, identity.cluster_id, link.answered)
    link.port, link.end = etcd, etcd.close
    link.rows = lambda: list(etcd.health().rows())


def _closed() -> None:
    """What the member still writes is written on its lane before the process ends."""

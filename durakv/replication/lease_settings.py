"""Lease mode's numbers from the directives, and what is refused of them before a node starts.

Rule: the only place that turns directives into raft.primary_backup.Settings, whose validate() judges them; here its
words become the directives' names.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from raft.primary_backup.settings import Settings as LeaseSettings

if TYPE_CHECKING:
    from durakv.config.settings import Settings

_MS: Final = 1_000_000
# The core's names for what an operator wrote.
_WORDS: Final = (
    ("holder_lease_ns", "lease-duration-ms"), ("holder_grace_ns", "lease-grace-ms"), ("lease_ns", "lease-duration-ms"),
    ("grace_ns", "lease-grace-ms"), ("rate_permille", "lease-clock-bound"), ("tick_ns", "tick-ms"),
    ("permille", "thousandths"),
)  # fmt: skip
# The primary's own lease with the holder may outlast an election of the holder's group.
_HOLDER_TIMES: Final = 3


def lease_settings(settings: Settings, node_id: int, group: int) -> LeaseSettings:
    """The core's settings. Raises ValueError, in the directives' words, for what would not be safe."""
    lease_ns = int(settings.lease_duration_ms) * _MS
    grace_ns = int(settings.lease_grace_ms) * _MS
    tick_ns = int(settings.tick_ms) * _MS
    out = LeaseSettings(
        node_id,
        group,
        lease_ns=lease_ns,
        grace_ns=grace_ns,
        rate_permille=int(settings.lease_clock_bound),
        beacon_ns=lease_ns // 5,
        tick_ns=tick_ns,
        stuck_after_ns=lease_ns // 2,
        holder_timeout_ns=max(2 * tick_ns, lease_ns // 2),
        holder_lease_ns=_HOLDER_TIMES * lease_ns,
        holder_grace_ns=_HOLDER_TIMES * grace_ns,
        evict_after_ns=2 * lease_ns,
        admit_timeout_ns=2 * lease_ns,
        hold_ns=3 * lease_ns,
        transfer_timeout_ns=max(2 * lease_ns, 2 * max(2 * tick_ns, lease_ns // 2)),
        max_uncommitted_bytes=int(settings.max_uncommitted_bytes),
        max_committed_bytes_per_ready=1 << 20,
        lazy_commit=True,
    )
    try:
        out.validate()
    except ValueError as error:
        text = str(error)
        for core, directive in _WORDS:
            text = text.replace(core, directive)
        raise ValueError(f"lease mode: {text} (times in this message are in nanoseconds)") from None
    return out


def founding_min_isr(settings: Settings, nodes: int) -> int:
    """In-sync members that a new shard of so many nodes demands. Raises ValueError for more than there are."""
    wanted = int(settings.min_isr)
    if wanted > nodes:
        raise ValueError(f"min-isr {wanted} with {nodes} nodes: no write would ever be taken; choose at most {nodes}")
    return wanted or default_min_isr(nodes)


def default_min_isr(nodes: int) -> int:
    """Two copies where one more node can still fail; one where the loss of the only other shall not stop writes."""
    return 2 if nodes > 2 else 1

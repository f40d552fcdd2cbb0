"""Settings under which two nodes could serve at once, or nobody could, are refused with the reason."""

import pytest

from raft.primary_backup import Settings

MS = 1_000_000


def test_the_defaults_hold():
    Settings(1).validate()
    Settings(1, lease_ns=1000 * MS, grace_ns=1250 * MS, rate_permille=100, tick_ns=50 * MS).validate()


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"node_id": 0}, "0 means nobody"),
        ({"group": -1}, "unsigned"),
        ({"grace_ns": 1249 * MS}, r"at least 1\.25 times lease_ns.*raise grace_ns to 1250000000"),
        ({"grace_ns": 1300 * MS}, "too short for lease_ns.*150 permille"),
        ({"rate_permille": 200}, "a slow primary would serve after a fast member took over"),
        ({"rate_permille": 1000}, "run backwards"),
        ({"lease_ns": 0}, "without a lease"),
        ({"holder_lease_ns": 3000 * MS}, "holder_grace_ns must be at least 1.25"),
        ({"beacon_ns": 400 * MS}, "one lost beacon"),
        ({"tick_ns": 200 * MS}, "pause of this node"),
        ({"stuck_after_ns": 1001 * MS}, "dead executor"),
        ({"stuck_after_ns": 50 * MS}, "more than tick_ns"),
        ({"evict_after_ns": 1 * MS}, "nobody answers sooner"),
        ({"holder_timeout_ns": 10 * MS}, "at least tick_ns"),
        ({"transfer_timeout_ns": 400 * MS}, "one call to the holder"),
        ({"hold_ns": -1}, "not be negative"),
        ({"max_size_per_msg": 0}, "nothing could ever be sent"),
    ],
)
def test_what_is_refused(changed, reason):
    with pytest.raises(ValueError, match=reason):
        Settings(**{"node_id": 1, **changed}).validate()

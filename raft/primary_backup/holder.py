"""The port to the config holder: calls go out, answers come back as events, and an answer may be "unknown".

Rule: the core never waits for the holder and never guesses. An adapter owes three things: OK and REFUSED only when
that is certain, UNKNOWN (or no answer at all) otherwise; a READ that is linearizable; and no repetition of a call of
its own. The core repeats what it does not know the fate of, under the same request id, until a configuration of a later
epoch settles it: re-reading the same epoch proves nothing, since a delayed call may still arrive.

Over a raft group, the call's bytes (codec.encode_call) are the log entry, stamped by RegisterClock, and the answer is
what Register.apply returns; a ReadCall may take ReadIndex and Register.shard instead. Refusals before the entry was
proposed are REFUSED with NOT_SENT, everything after is UNKNOWN until applied.

Over etcd 3, with C the key of the shard's ShardConfig.encode() and O a key held by an etcd lease of the primary:

CreateCall  txn: if create_revision(C) = 0 then put C else get C; OK if the value is now exactly call.config.
ReadCall    range C, linearizable (not serializable=true).
CasCall     get C; if its request is call.request answer OK; judge_cas() on it, refuse what it refuses; else
            txn: if mod_revision(C) = the one read then put C = call.config else get C. On else: OK if the request
            found is call.request, REFUSED/EPOCH if its epoch is later. On a timeout of the txn: UNKNOWN.
RenewCall   first LeaseKeepAlive of this process's lease, or LeaseGrant(TTL = ceil(grace)) where it has none or that
            one expired; then txn: if O hangs on that lease then get C else get C and O. Another epoch or primary in C:
            REFUSED/EPOCH. O hangs on it: OK. O is this reign's under another lease: UNKNOWN, and that lease is the
            one to keep alive. Else txn: if mod_revision of C and of O (0: absent) = those read then put O under the
            lease else get C: OK, or on else REFUSED/EPOCH if C's epoch is later.
ForceCall   txn: if create_revision(O) = 0 and mod_revision(C) = the one read, judged by judge_force(leased=False), then
            put C = forced() else get both; O present means REFUSED/LEASED. etcd expires a lease by the clock of its
            leader and grants it anew for a full TTL when another leads: late, never early.
"""

from typing import Protocol

from raft.primary_backup.messages import HolderCall


class HolderPort(Protocol):
    """Where calls of Ready.calls go; the answers come back through PrimaryBackup.answer()."""

    def submit(self, call: HolderCall) -> None:
        """Send the call and return at once. Answer at most once; an answer that never comes counts as unknown."""
        ...

"""How a config holder is, as far as one data node can tell: for INFO and for the command line.

Rule: plain values, copied when asked for.
"""

from __future__ import annotations

from typing import Final

from durakv.holder.address import Members, format_members

EMBEDDED: Final = "embedded"
ETCD: Final = "etcd"


class HolderHealth:
    """``leader`` is the member that answered last or was named as leader, 0 when none is known. ``answer_age_ms`` is -1
    before the first answer; ``waiting`` are calls without an answer; ``trouble`` is "" when the last call was answered.
    """

    __slots__ = ("answer_age_ms", "answered", "kind", "leader", "members", "own", "trouble", "unknown", "waiting")

    def __init__(
        self, kind: str, members: list[str], leader: int, answer_age_ms: int, answered: int, unknown: int, waiting: int,
        trouble: str, own: MemberHealth | None,
    ) -> None:  # fmt: skip
        self.kind = kind
        self.members = members
        self.leader = leader
        self.answer_age_ms = answer_age_ms
        self.answered = answered
        self.unknown = unknown
        self.waiting = waiting
        self.trouble = trouble
        self.own = own

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for INFO."""
        out = [
            ("holder_kind", self.kind),
            ("holder_members", ",".join(self.members)),
            ("holder_last_answer_ms", str(self.answer_age_ms)),
            ("holder_answered", str(self.answered)),
            ("holder_unknown", str(self.unknown)),
            ("holder_waiting", str(self.waiting)),
            ("holder_trouble", self.trouble),
        ]
        if self.kind == EMBEDDED:
            out.append(("holder_leader", str(self.leader)))
        if self.own is not None:
            out += self.own.rows()
        return out


class MemberHealth:
    """How the member in this process is. ``voters`` are the members the group agreed on, ``members`` those this one has
    addresses of, ``connected`` those it has a connection to; ``behind`` those that a leader knows to lack something.
    """

    __slots__ = (
        "applied", "behind", "commit", "connected", "file_bytes", "leader", "member_id", "members", "role", "term",
        "voters",
    )  # fmt: skip

    def __init__(
        self, member_id: int, role: str, leader: int, term: int, commit: int, applied: int, members: Members,
        connected: list[int], voters: list[int], behind: list[int], file_bytes: int,
    ) -> None:  # fmt: skip
        self.member_id = member_id
        self.role = role
        self.leader = leader
        self.term = term
        self.commit = commit
        self.applied = applied
        self.members = format_members(members)
        self.connected = connected
        self.voters = voters
        self.behind = behind
        self.file_bytes = file_bytes

    def rows(self) -> list[tuple[str, str]]:
        """Names and values for INFO."""
        return [
            ("holder_member_id", str(self.member_id)),
            ("holder_member_role", self.role),
            ("holder_member_leader", str(self.leader)),
            ("holder_member_term", str(self.term)),
            ("holder_member_commit", str(self.commit)),
            ("holder_member_applied", str(self.applied)),
            ("holder_member_connected", ",".join(str(member) for member in self.connected)),
            ("holder_member_voters", ",".join(str(member) for member in self.voters)),
            ("holder_member_behind", ",".join(str(member) for member in self.behind)),
            ("holder_member_file_bytes", str(self.file_bytes)),
        ]

    def document(self) -> dict[str, object]:
        """The same as plain values, for a report."""
        return {
            "member": self.member_id, "role": self.role, "leader": self.leader, "term": self.term,
            "commit": self.commit, "applied": self.applied, "members": self.members, "connected": self.connected,
            "voters": self.voters, "behind": self.behind, "file_bytes": self.file_bytes,
        }  # fmt: skip

"""Every way the core says no in lease mode. Each is definite: nothing was appended or asked.

Rule: an error here never leaves a proposal in doubt; its text begins with the client's error prefix. This file must
not know why a role decides so.
"""


class Refused(Exception):
    """Not done and never will be; `text` is for the client, its first word the error's prefix."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class NotPrimary(Refused):
    """Only the primary takes this; `primary` is the one known here, 0 if none is."""

    def __init__(self, primary: int) -> None:
        where = f"ask node {primary}" if primary else "no primary is known, retry shortly"
        super().__init__(f"CLUSTERDOWN this node is not the primary; {where}; nothing was logged")
        self.primary = primary


class LeaseExpired(Refused):
    """The primary cannot prove that nobody took over."""

    def __init__(self, why: str) -> None:
        super().__init__(f"LEASEEXPIRED {why}; nothing was logged, try again")


class NoReplicas(Refused):
    """Fewer members are in sync than the shard demands."""

    def __init__(self, have: int, want: int) -> None:
        super().__init__(
            f"NOREPLICAS Not enough good replicas to write: {have} of the {want} members that min-isr demands are in "
            "sync; nothing was logged, bring a member back or lower min-isr"
        )


class Overloaded(Refused):
    """Uncommitted entries already fill max_uncommitted_bytes."""

    def __init__(self) -> None:
        super().__init__("THROTTLED too many uncommitted bytes; nothing was logged, try again")


class HandingOver(Refused):
    """The primary is leaving office."""

    def __init__(self) -> None:
        super().__init__("CLUSTERDOWN the primary is handing over; nothing was logged, try again")


class ChangeRefused(Refused):
    """A change of the shard's members cannot be asked for now, or makes no sense."""

    def __init__(self, why: str) -> None:
        super().__init__(f"ERR {why}")

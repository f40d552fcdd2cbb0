"""The members a leader works with while its group has a witness, and how it judges which of them answer.

The set holds as many members as there are regular voters: all of these, or all but one with the witness in its place.
Rule: the only place that says what suspected and healthy mean, in ticks and log positions. Knows no quorums and sends
nothing: see pin.py.
"""

from raft.progress import Progress, ProgressState


class Watch:
    """How one voter answers, judged once a tick; looking at its Progress keeps the paths of its messages as they are.

    A voter lags when it does not acknowledge, within the suspicion time, what was the end of the log at some moment.
    """

    __slots__ = ("goal", "lag_ticks", "last_lag_ticks", "match", "reported_ticks", "round", "silent_ticks")

    def __init__(self, pr: Progress, last: int) -> None:
        self.round = pr.round
        self.match = pr.match
        self.silent_ticks = 0
        # Since report_unreachable() without an answer; -1 if there was no report or an answer came.
        self.reported_ticks = -1
        self.goal = last
        self.lag_ticks = 0
        self.last_lag_ticks = 0

    def observe(self, pr: Progress, last: int) -> None:
        """One tick passed; `last` is the end of the leader's log."""
        if pr.round != self.round or pr.match != self.match:
            self.round = pr.round
            self.match = pr.match
            self.silent_ticks = 0
            self.reported_ticks = -1
        else:
            self.silent_ticks += 1
            if self.reported_ticks >= 0:
                self.reported_ticks += 1
        if pr.match >= self.goal:
            self.goal = last
            self.last_lag_ticks = self.lag_ticks
            self.lag_ticks = 0
        else:
            self.lag_ticks += 1

    def unreachable(self, pr: Progress) -> None:
        """Its connection broke; only what is heard from now on speaks for it."""
        self.round = pr.round
        self.match = pr.match
        if self.reported_ticks < 0:
            self.reported_ticks = 0

    def suspicion(self, suspect_ticks: int, report_ticks: int) -> int:
        """0 if it seems to be there, else the greater the longer it is missed."""
        missed = max(self.silent_ticks, self.lag_ticks)
        if missed >= suspect_ticks:
            return missed
        return max(1, missed) if self.reported_ticks >= report_ticks else 0

    def healthy(self, pr: Progress, last: int, lag_entries: int, suspect_ticks: int, heartbeat_ticks: int) -> bool:
        """True if commits would hardly wait for it: it answers heartbeats, is close, and keeps up with the log."""
        return (
            pr.state == ProgressState.REPLICATE
            and pr.match + lag_entries >= last
            and self.silent_ticks <= heartbeat_ticks
            and 2 * max(self.lag_ticks, self.last_lag_ticks) <= suspect_ticks
        )


class ReplicationSet:
    """A leader's set in its current subterm, and what the witness is known to have recorded of it."""

    __slots__ = (
        "asked_index",
        "asked_ticks",
        "has_witness",
        "hold_until_ticks",
        "members",
        "outside",
        "pause_until_ticks",
        "start_index",
        "waited",
        "watches",
        "witness",
        "witness_match",
        "witness_subterm",
    )

    def __init__(self, witness: int) -> None:
        self.witness = witness
        # Sorted; the witness included if it stands in for `outside`, which is 0 otherwise.
        self.members: tuple[int, ...] = ()
        self.outside = 0
        self.has_witness = False
        # The first entry of the current subterm.
        self.start_index = 0
        # The last subterm of this term that the witness recorded. -1, for an election starts subterm 0 unrecorded.
        self.witness_subterm = -1
        # Through here the witness counts as having acknowledged.
        self.witness_match = 0
        # The question on its way for the current subterm: its index, 0 for none, and when it was sent.
        self.asked_index = 0
        self.asked_ticks = 0
        self.pause_until_ticks = 0
        self.hold_until_ticks = 0
        # CheckQuorum let the leader be once because an answer of the witness was due.
        self.waited = False
        self.watches: dict[int, Watch] = {}

    def begin(self, regulars: tuple[int, ...], outside: int, start_index: int) -> None:
        """A new subterm, whose first entry is at `start_index`, with the witness in the place of `outside` (0: of
        nobody). Nothing the witness recorded before holds for it.
        """
        self.outside = outside
        self.has_witness = outside != 0
        if outside:
            self.members = tuple(sorted([self.witness, *[node for node in regulars if node != outside]]))
        else:
            self.members = regulars
        self.start_index = start_index
        self.asked_index = 0
        self.pause_until_ticks = 0

    def watch(self, pr: Progress, last: int) -> Watch:
        """The watch over a voter, begun now if there is none."""
        found = self.watches.get(pr.node)
        if found is None:
            found = self.watches[pr.node] = Watch(pr, last)
        return found

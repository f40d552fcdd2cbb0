"""Transfers between accounts: each read is one instant, at which the total is what it always was.

A constant total shows torn reads and half transfers; a transfer lost or done twice leaves it as it is. So each balance
must also differ from that of the first good read by transfers that can lie between the two. Rule: only answered reads
are evidence; a transfer of unknown outcome happened once or not at all.

Operations: ``transfer`` of ``{"from", "to", "amount"}``; ``read``, answered by a map from account to balance.
Options: ``total`` and ``accounts`` (list of names), both taken from the first read when absent; ``negative_balances``
true where accounts may be overdrawn; ``independent`` as everywhere.
"""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Final

from jstyle.checkers.counter import Sums
from jstyle.checkers.partition import without_effect
from jstyle.checkers.per_key import NEVER, answer, calls_by_key, decided, ended, field, of, whole
from jstyle.checkers.verdict import Anomaly, Options, Verdict, flag_option, number_option, words_option
from jstyle.history.op import Call, HistoryError, Op

WRONG_TOTAL: Final = "wrong-total"
NEGATIVE: Final = "negative-balance"
UNEXPECTED: Final = "unexpected-account"
MISSING: Final = "missing-account"
UNEXPLAINED: Final = "unexplained-balance"


class Read:
    """An answered read: balances by account, accounts without one left out."""

    __slots__ = ("balances", "end", "start")

    def __init__(self, start: Op, end: Op) -> None:
        self.start = start.index
        self.end = end.index
        value = end.value
        if not isinstance(value, dict):
            raise HistoryError(f"operation {end.index}: a read must answer a map of balances, not {value!r}")
        self.balances = {str(name): whole(end, balance) for name, balance in value.items() if balance is not None}

    def total(self) -> int:
        """Of all balances."""
        return sum(self.balances.values())


class Bank:
    """One key's calls, and what is true of every instant."""

    __slots__ = ("accounts", "key", "overdraft", "reads", "total", "transfers")

    def __init__(self, key: Hashable, calls: Sequence[Call], options: Options) -> None:
        self.key = key
        self.reads: list[Read] = []
        self.transfers: list[Call] = []
        for call in calls:
            done = answer(call)
            if call.start.f == "transfer":
                if not without_effect(call):
                    self.transfers.append(call)
            elif done is not None:
                self.reads.append(Read(call.start, done))
        first = min(self.reads, key=lambda read: read.end) if self.reads else None
        self.total = int(number_option(options, "total", first.total() if first else 0))
        self.accounts = words_option(options, "accounts") or sorted(first.balances if first else ())
        self.overdraft = flag_option(options, "negative_balances") is True

    def changes(self, account: str, base: Read) -> list[tuple[int, int, int]]:
        """(begin, certain, amount) of what may have changed the account since ``base``.

        A transfer under way at that read may be in it or come later: it never becomes certain.
        """
        found = []
        for call in self.transfers:
            start = call.start
            amount = whole(start, field(start, "amount"))
            change = amount * ((str(field(start, "to")) == account) - (str(field(start, "from")) == account))
            end = ended(call)
            if change and end > base.start:
                found.append((start.index, end if start.index > base.end else NEVER, change))
        return found


def wrong_totals(bank: Bank) -> list[Anomaly]:
    """Reads that do not add up."""
    return [
        Anomaly(
            WRONG_TOTAL,
            f"the balances{of(bank.key)} read at {read.end} add up to {read.total()}, not {bank.total}",
            [read.start, read.end],
            bank.key,
            {"balances": read.balances},
        )
        for read in bank.reads
        if read.total() != bank.total
    ]


def negatives(bank: Bank) -> list[Anomaly]:
    """Balances below nothing."""
    if bank.overdraft:
        return []
    return [
        Anomaly(
            NEGATIVE,
            f"account {name!r} holds {balance} in the read at {read.end}, but no transfer may overdraw it",
            [read.start, read.end],
            bank.key,
        )
        for read in bank.reads
        for name, balance in read.balances.items()
        if balance < 0
    ]


def strangers(bank: Bank) -> list[Anomaly]:
    """Accounts that a read has too many or too few."""
    found = []
    for read in bank.reads:
        for name in read.balances:
            if name not in bank.accounts:
                text = f"the read at {read.end} has an account {name!r} that is none of {', '.join(bank.accounts)}"
                found.append(Anomaly(UNEXPECTED, text, [read.start, read.end], bank.key))
        for name in bank.accounts:
            if name not in read.balances:
                text = f"the read at {read.end} has no balance for account {name!r}"
                found.append(Anomaly(MISSING, text, [read.start, read.end], bank.key))
    return found


def unexplained(bank: Bank) -> list[Anomaly]:
    """Balances that no choice among the uncertain transfers leads to from the first good read."""
    good = sorted((read for read in bank.reads if read.total() == bank.total), key=lambda read: read.end)
    if not good:
        return []
    base = good[0]
    found = []
    for account in bank.accounts:
        before = base.balances.get(account)
        if before is None:
            continue
        sums = Sums(bank.changes(account, base))
        for read in good[1:]:
            balance = read.balances.get(account)
            if balance is None or read.start < base.end:
                continue
            least, most = before + sums.least(read.start, read.end), before + sums.most(read.start, read.end)
            if not least <= balance <= most:
                text = (
                    f"account {account!r}{of(bank.key)} holds {balance} in the read at {read.end}, but from {before} at"
                    f" {base.end} the transfers allow {least} to {most}"
                )
                ops = [base.end, read.start, read.end]
                found.append(Anomaly(UNEXPLAINED, text, ops, bank.key, {"least": least, "most": most}))
    return found


def check(history: Sequence[Op], options: Options) -> Verdict:
    """See the module's text."""
    anomalies: list[Anomaly] = []
    counts = dict.fromkeys(("keys", "transfers", "acknowledged", "uncertain", "reads", "balances"), 0)
    for key, calls in calls_by_key(history, options, ("transfer", "read")).items():
        bank = Bank(key, calls, options)
        counts["keys"] += 1
        counts["transfers"] += len(bank.transfers)
        counts["acknowledged"] += sum(answer(call) is not None for call in bank.transfers)
        counts["uncertain"] += sum(answer(call) is None for call in bank.transfers)
        counts["reads"] += len(bank.reads)
        counts["balances"] += sum(len(read.balances) for read in bank.reads)
        anomalies += wrong_totals(bank)
        anomalies += negatives(bank)
        anomalies += strangers(bank)
        anomalies += unexplained(bank)
    return decided("bank", anomalies, counts, counts["reads"], lambda: "no read of the balances was answered")

"""Numbers that must add up: transfers between accounts (bank) and increments (counter)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from jstyle.history.op import FAIL, Value
from jstyle.sim.workloads.action import Action, Command, Done, Guarded, Once, UnexpectedReply, Workload, number, numbers

ACCOUNTS: Final = 5
BALANCE: Final = 20
_COUNTERS: Final = 2


def _account(n: int) -> bytes:
    return b"b%d" % n


def _by_account(reply: object) -> Value:
    balances = numbers(reply)
    if len(balances) != ACCOUNTS:
        raise UnexpectedReply(f"MGET of {ACCOUNTS} accounts answered {reply!r}")
    return {str(n): balance for n, balance in enumerate(balances)}


def _balances() -> Once:
    return Once("read", [b"MGET", *[_account(n) for n in range(ACCOUNTS)]], _by_account, effect=False)


class Transfer(Guarded):
    """Both changes in MULTI, when the payer has enough."""

    def __init__(self, payer: int, payee: int, amount: int) -> None:
        by = b"%d" % amount
        writes: list[Command] = [[b"DECRBY", _account(payer), by], [b"INCRBY", _account(payee), by]]
        value: Value = {"from": str(payer), "to": str(payee), "amount": amount}
        super().__init__(
            "transfer", _account(payer), lambda found: number(found) >= amount, writes,
            Done(FAIL, value, "insufficient"), value=value,
        )  # fmt: skip

    def executed(self, replies: list[object]) -> Value:
        """See Guarded."""
        return self.value


class Bank(Workload):
    """See the module's text."""

    name = "bank"

    def setup(self) -> list[Command]:
        """See Workload."""
        return [[b"SET", _account(n), b"%d" % BALANCE] for n in range(ACCOUNTS)]

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        if random.random() < 0.4:
            return _balances()
        payer, payee = random.sample(range(ACCOUNTS), 2)
        return Transfer(payer, payee, random.randint(1, 5))

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [_balances()]


def _count(key: str) -> Once:
    return Once("read", [b"GET", key.encode()], number, key=key, effect=False)


class Counters(Workload):
    """See the module's text."""

    name = "counter"

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = self.named(f"c{random.randrange(_COUNTERS)}")
        if random.random() < 0.3:
            return _count(key)
        amount = random.randint(1, 9)
        return Once("incr", [b"INCRBY", key.encode(), b"%d" % amount], number, key=key, value=amount)

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [_count(self.named(f"c{n}")) for n in range(_COUNTERS)]

"""Numbers that must add up: transfers between accounts (bank) and increments (counter)."""

from __future__ import annotations

from collections.abc import Sequence
from random import Random
from typing import Final

from jstyle.history.op import FAIL, Value
from jstyle.sim.outcomes import ErrorText
from jstyle.sim.workloads.action import Action, Command, Done, Simple, UnexpectedReply, failed, number, okay, optional

ACCOUNTS: Final = 5
BALANCE: Final = 20
_COUNTERS: Final = 2


def _account(n: int) -> bytes:
    return b"b%d" % n


class Balances(Simple):
    """MGET of all accounts."""

    f = "read"
    effect = False

    def __init__(self) -> None:
        super().__init__(None, None)

    def command(self) -> Command:
        """See Simple."""
        return [b"MGET", *[_account(n) for n in range(ACCOUNTS)]]

    def done(self, reply: object) -> Done:
        """See Simple."""
        if not isinstance(reply, list) or len(reply) != ACCOUNTS:
            raise UnexpectedReply(f"MGET answered {reply!r}")
        return okay({str(n): number(item) for n, item in enumerate(reply)})


class Transfer(Action):
    """WATCH and GET of the payer; when it has enough, both changes in MULTI."""

    f = "transfer"

    def __init__(self, payer: int, payee: int, amount: int) -> None:
        super().__init__(None, {"from": str(payer), "to": str(payee), "amount": amount})
        self.payer = payer
        self.payee = payee
        self.amount = amount
        self.step = 0

    def first(self) -> list[Command]:
        """See Action."""
        return [[b"WATCH", _account(self.payer)], [b"GET", _account(self.payer)]]

    def next(self, replies: list[object]) -> list[Command] | Done:
        """See Action."""
        self.step += 1
        if self.step == 1:
            for reply in replies:
                if isinstance(reply, ErrorText):
                    # Nothing that changes an account was sent yet.
                    return Done(FAIL, self.value, failed(self, reply).error)
            if number(replies[1]) >= self.amount:
                return [[b"MULTI"], *self.writes(), [b"EXEC"]]
            self.step = 10
            return [[b"UNWATCH"]]
        if self.step > 10:
            return Done(FAIL, self.value, "insufficient")
        final = replies[-1]
        if isinstance(final, ErrorText):
            return failed(self, final)
        return Done(FAIL, self.value, "aborted") if final is None else okay(self.value)

    def writes(self) -> list[Command]:
        """See Action."""
        amount = b"%d" % self.amount
        return [[b"DECRBY", _account(self.payer), amount], [b"INCRBY", _account(self.payee), amount]]


class Bank:
    """See the module's text."""

    name = "bank"

    def setup(self) -> list[Command]:
        """See Workload."""
        return [[b"SET", _account(n), b"%d" % BALANCE] for n in range(ACCOUNTS)]

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        if random.random() < 0.4:
            return Balances()
        payer, payee = random.sample(range(ACCOUNTS), 2)
        return Transfer(payer, payee, random.randint(1, 5))

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [Balances()]


class Increment(Simple):
    """INCRBY; the reply is the new value."""

    f = "incr"

    def __init__(self, key: str, amount: int) -> None:
        super().__init__(key, amount)
        self.name = key.encode()
        self.amount = amount

    def command(self) -> Command:
        """See Simple."""
        return [b"INCRBY", self.name, b"%d" % self.amount]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(number(reply))


class Count(Simple):
    """GET of a counter."""

    f = "read"
    effect = False

    def __init__(self, key: str) -> None:
        super().__init__(key, None)
        self.name = key.encode()

    def command(self) -> Command:
        """See Simple."""
        return [b"GET", self.name]

    def done(self, reply: object) -> Done:
        """See Simple."""
        return okay(optional(reply) or 0)


class Counters:
    """See the module's text."""

    name = "counter"

    def setup(self) -> list[Command]:
        """See Workload."""
        return []

    def draw(self, random: Random, unique: int, turn: int) -> Action:
        """See Workload."""
        key = f"c{random.randrange(_COUNTERS)}"
        return Count(key) if random.random() < 0.3 else Increment(key, random.randint(1, 9))

    def saw(self, action: Action, value: Value) -> None:
        """See Workload."""

    def final(self) -> Sequence[Action]:
        """See Workload."""
        return [Count(f"c{n}") for n in range(_COUNTERS)]

"""Just-in-time search for a linearization of one partition.

Walk the calls and returns in order and keep every *configuration* that explains what was seen so far: the state, which
open calls already took effect (a bit each, recycled on return), and how often each kind of crashed call was used. A
return keeps the configurations in which its call took effect, trying other open calls first where that is needed;
nothing takes effect before some return needs it. When none is left, the history is not linearizable.

What keeps this small:
- a call that never changes the state is taken as soon as it is legal: waiting could not help anybody;
- a crashed call need never take effect, so only its *use* counts, kinds are counted and not calls, a use that changes
  nothing is skipped, and a configuration is dropped when another with the same state and bits used no more of any kind;
- where every call tells at most one state from all others, a crashed call is used only while an open one looks for the
  state it gives (``linear_crashed``).

Many kinds of crashed calls can still leave many ways to have used them. Then ``decide`` asks two cheaper questions
first. Keeping only a few ways per state and bits may miss a linearization, but one found is one: true. Not counting
uses at all may allow too much, but where even that fails there is none: false.

A configuration is one integer: uses, then the state's number, then the bits. Rule: shares only the models and the
partition with the other engine (``wgl``), so that a bug here does not vouch for itself.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final

from jstyle.checkers.linear_crashed import Group, Watch, crashed_kinds
from jstyle.checkers.linear_machine import Machine
from jstyle.checkers.models import State
from jstyle.checkers.partition import Partition

_STATE_BITS: Final = 32
# The clock is read once in so many expansions.
_CLOCK_EVERY: Final = 2048
_EXPLAINED: Final = 8

# How uses of crashed calls are kept apart for one state and bits: all, the first few, or not at all.
EXACT: Final = 1 << 30
FEW: Final = 4
UNCOUNTED: Final = 0
# What the first exact attempt may cost before the cheaper questions are asked, and their share of the whole.
_FIRST_STEPS: Final = 100_000
_SHARE: Final = 4

# The calls taken so far, newest first: (number of the call, what was before it).
Chain = tuple[int, "Chain"] | None


class Budget:
    """What one partition may cost. ``deadline_s`` is on the clock's scale; ``configs`` bounds memory."""

    __slots__ = ("clock", "configs", "deadline_s", "steps")

    def __init__(self, steps: int, configs: int, deadline_s: float, clock: Callable[[], float]) -> None:
        self.steps = steps
        self.configs = configs
        self.deadline_s = deadline_s
        self.clock = clock


class Prefix:
    """A longest explanation: the calls taken in order, the state they lead to, and what could not come next.

    A crashed call appears more than once where the proof did not need to count its uses.
    """

    __slots__ = ("illegal", "state", "taken")

    def __init__(self, taken: list[int], state: State, illegal: list[int]) -> None:
        self.taken = taken
        self.state = state
        self.illegal = illegal


class Finding:
    """How a search ended: ``linearizable`` True, False or None (budget); ``at`` is the call it ended at, else -1."""

    __slots__ = ("at", "configs_peak", "linearizable", "prefixes", "steps", "why")

    def __init__(self, linearizable: bool | None, at: int, steps: int, configs_peak: int) -> None:
        self.linearizable = linearizable
        self.at = at
        self.steps = steps
        self.configs_peak = configs_peak
        self.prefixes: list[Prefix] = []
        self.why = ""


class OutOfBudget(Exception):
    """The search costs more than it may; the text says which bound was met."""


def events(part: Partition) -> list[int]:
    """Calls (number i) and returns (``~i``) in the order they happened; crashed calls have no return."""
    timed = [(at, number) for number, at in enumerate(part.starts)]
    timed += [(at, ~number) for number, at in enumerate(part.ends) if at >= 0]
    timed.sort()
    return [number for _, number in timed]


class Search:
    """One run over one partition; use ``run`` once."""

    def __init__(self, part: Partition, machine: Machine, budget: Budget, ways: int = EXACT) -> None:
        self.ways = ways
        self.dropped = False
        self.part = part
        self.machine = machine
        self.budget = budget
        self.steps = 0
        self.peak = 1
        self.kinds = [machine.kind(step) for step in part.steps]
        self.events = events(part)
        self.bits = self._assign_bits()
        # Open calls by bit: those that may change the state, and those that never do.
        self.writers: dict[int, tuple[dict[int, int], int]] = {}
        self.readers: dict[int, tuple[dict[int, int], int]] = {}
        self.open: dict[int, int] = {}
        self.legal_readers: dict[int, int] = {}
        self._lay_out_uses()
        self.configs: dict[int, Chain] = {machine.number(machine.model.initial()) << self.width: None}
        self.explored: Iterable[tuple[int, Chain]] = ()

    def _assign_bits(self) -> list[int]:
        """A bit for every completed call, reused once it returned; ``width`` is how many are ever in use at once."""
        bits = [0] * len(self.kinds)
        free: list[int] = []
        width = 0
        ends = self.part.ends
        for event in self.events:
            if event < 0:
                free.append(bits[~event])
            elif ends[event] >= 0:
                if free:
                    bits[event] = free.pop()
                else:
                    bits[event] = 1 << width
                    width += 1
        self.width = width
        return bits

    def _lay_out_uses(self) -> None:
        """Fields for the uses of each crashed kind, each with a guard bit above it for comparing all at once."""
        by_kind = crashed_kinds(self.part, self.kinds)
        self.low_width = self.width + _STATE_BITS
        field = max([len(members) for members in by_kind.values()], default=0).bit_length() + 1
        self.field_mask = (1 << (field - 1)) - 1
        self.guards = 0
        self.groups: dict[int, Group] = {}
        for place, (kind, members) in enumerate(by_kind.items()):
            self.guards |= 1 << (place * field + field - 1)
            shift = self.low_width + place * field
            self.groups[kind] = Group(kind, self.machine.tables[kind], members, shift)
            if self.ways == UNCOUNTED:
                self.groups[kind].unit = 0
            self.groups[kind].gives = self.part.model.gives(self.part.steps[members[0]])
        self.live_groups: list[Group] = []
        # Those of the live groups that some open call looks for.
        self.usable: list[Group] = []
        self.watch = Watch(self.part)
        self.field = field

    def run(self) -> Finding:
        """Search to the end, to a contradiction or to the end of the budget."""
        ends = self.part.ends
        for event in self.events:
            if event >= 0:
                if ends[event] >= 0:
                    self._call(event)
                else:
                    self._crashed_call(event)
                continue
            number = ~event
            try:
                kept = self._return_with_crashed(number) if self.live_groups else self._return(number)
            except OutOfBudget as spent:
                finding = Finding(None, number, self.steps, self.peak)
                finding.why = str(spent)
                return finding
            if not kept:
                finding = Finding(False, number, self.steps, self.peak)
                finding.prefixes = self._prefixes()
                return finding
            self.configs = kept
            self._close(number)
        return Finding(True, -1, self.steps, self.peak)

    def _call(self, number: int) -> None:
        kind = self.kinds[number]
        bit = self.bits[number]
        table = self.machine.tables[kind]
        self.open[bit] = number
        self.watch.begins(number)
        if not self.machine.pures[kind]:
            self.writers[bit] = (table, kind)
            return
        self.readers[bit] = (table, kind)
        self.legal_readers.clear()
        kept: dict[int, Chain] = {}
        width = self.width
        state_mask = (1 << _STATE_BITS) - 1
        for config, chain in self.configs.items():
            state = (config >> width) & state_mask
            to = table.get(state)
            if to is None:
                to = self.machine.move(kind, state)
            if to < 0:
                kept[config] = chain
            else:
                kept[config | bit] = (number, chain)
        self.configs = kept

    def _crashed_call(self, number: int) -> None:
        group = self.groups.get(self.kinds[number])
        if group is None:
            return
        self.watch.begins(number)
        if self.watch.sights and not self.watch.ahead.get(group.gives):
            return
        if group.available == 0:
            self.live_groups.append(group)
        group.available += 1

    def _close(self, number: int) -> None:
        bit = self.bits[number]
        del self.open[bit]
        if self.writers.pop(bit, None) is None:
            del self.readers[bit]
            self.legal_readers.clear()
        if self.watch.ends(number):
            self._retire(self.watch.sights[number])

    def _retire(self, state: State) -> None:
        """Nothing looks for the state any more: crashed calls that give it are out, and so are their uses."""
        gone = [group for group in self.live_groups if group.gives == state]
        if not gone:
            return
        self.live_groups = [group for group in self.live_groups if group.gives != state]
        fields = 0
        for group in gone:
            fields |= self.field_mask << group.shift
        self.configs = {config & ~fields: chain for config, chain in self.configs.items()}

    def _readers_of(self, state: int) -> int:
        """The bits of open calls that change nothing and are legal in the state."""
        found = 0
        for bit, (table, kind) in self.readers.items():
            to = table.get(state)
            if to is None:
                to = self.machine.move(kind, state)
            if to >= 0:
                found |= bit
        self.legal_readers[state] = found
        return found

    def _taken(self, bits: int, chain: Chain) -> Chain:
        while bits:
            bit = bits & -bits
            chain = (self.open[bit], chain)
            bits ^= bit
        return chain

    def _return(self, number: int) -> dict[int, Chain]:
        """The configurations in which the returning call took effect, without its bit; no crashed call is about."""
        target = self.bits[number]
        kept: dict[int, Chain] = {}
        seen: dict[int, Chain] = {}
        for config, chain in self.configs.items():
            if config & target:
                kept[config ^ target] = chain
            else:
                seen[config] = chain
        if not seen:
            return kept
        width, move, legal_readers = self.width, self.machine.move, self.legal_readers
        mask_all = (1 << width) - 1
        writers = [(bit, table, kind) for bit, (table, kind) in self.writers.items()]
        stack = list(seen.items())
        pops = 0
        while stack:
            config, chain = stack.pop()
            pops += 1
            if not pops & 255:
                self._spend(256 * len(writers), len(seen) + len(kept))
            state = config >> width
            mask = config & mask_all
            for bit, table, kind in writers:
                if mask & bit:
                    continue
                to = table.get(state)
                if to is None:
                    to = move(kind, state)
                if to < 0:
                    continue
                readers = legal_readers.get(to)
                if readers is None:
                    readers = self._readers_of(to)
                after = (to << width) | mask | bit | readers
                if after & target:
                    after ^= target
                    if after not in kept:
                        kept[after] = self._taken((readers & ~mask), (self.open[bit], chain))
                elif after not in seen:
                    longer = self._taken(readers & ~mask, (self.open[bit], chain))
                    seen[after] = longer
                    stack.append((after, longer))
        self._spend((pops & 255) * len(writers), len(kept))
        self.explored = seen.items()
        return kept

    def _spend(self, steps: int, configs: int) -> None:
        """Account for work done. Raises OutOfBudget."""
        before = self.steps // _CLOCK_EVERY
        self.steps += steps
        if configs > self.peak:
            self.peak = configs
        budget = self.budget
        if self.steps > budget.steps:
            raise OutOfBudget(f"{budget.steps} steps")
        if configs > budget.configs:
            raise OutOfBudget(f"{budget.configs} configurations at once")
        if self.steps // _CLOCK_EVERY != before and budget.clock() > budget.deadline_s:
            raise OutOfBudget("the time allowed")

    def _uses(self, config: int) -> int:
        """How many crashed calls a configuration used."""
        uses = config >> self.low_width
        total = 0
        while uses:
            total += uses & self.field_mask
            uses >>= self.field
        return total

    def _return_with_crashed(self, number: int) -> dict[int, Chain]:
        """As ``_return``, where crashed calls may be used.

        Configurations are taken in order of total uses, so whatever dominates one was accepted before it.
        """
        target = self.bits[number]
        wanted = self.watch.wanted
        sharp = not self.watch.sights
        self.usable = [group for group in self.live_groups if sharp or wanted.get(group.gives)]
        low_mask = (1 << self.low_width) - 1
        low_width, guards = self.low_width, self.guards
        kept: dict[int, Chain] = {}
        seen: dict[int, list[int]] = {}
        explored: list[tuple[int, Chain]] = []
        levels: dict[int, list[tuple[int, Chain]]] = {}
        for config, chain in self.configs.items():
            levels.setdefault(self._uses(config), []).append((config, chain))
        ways = self.ways
        work = 0
        while levels:
            level = min(levels)
            stack = levels.pop(level)
            more: list[tuple[int, Chain]] = []
            while stack:
                config, chain = stack.pop()
                uses = config >> low_width
                better = seen.get(config & low_mask)
                if better is None:
                    seen[config & low_mask] = [uses]
                else:
                    guarded = uses | guards
                    work += len(better) >> 2
                    if any((guarded - other) & guards == guards for other in better):
                        continue
                    if len(better) >= ways:
                        self.dropped = True
                        continue
                    better.append(uses)
                work += len(self.writers) + len(self.usable)
                if work > _CLOCK_EVERY:
                    self._spend(work, len(explored) + len(kept))
                    work = 0
                if config & target:
                    kept[config ^ target] = chain
                else:
                    explored.append((config, chain))
                    self._expand(config, chain, stack, more)
            if more:
                levels.setdefault(level + 1, []).extend(more)
        self._spend(work, len(kept))
        self.explored = explored
        return kept

    def _expand(
        self, config: int, chain: Chain, same: list[tuple[int, Chain]], more: list[tuple[int, Chain]],
    ) -> None:  # fmt: skip
        """Add to ``same`` what follows by one open call, to ``more`` what follows by one more crashed call."""
        width, move, legal_readers = self.width, self.machine.move, self.legal_readers
        mask = config & ((1 << width) - 1)
        state = (config >> width) & ((1 << _STATE_BITS) - 1)
        uses = config >> self.low_width << self.low_width
        for bit, (table, kind) in self.writers.items():
            if mask & bit:
                continue
            to = table.get(state)
            if to is None:
                to = move(kind, state)
            if to < 0:
                continue
            readers = legal_readers.get(to)
            if readers is None:
                readers = self._readers_of(to)
            longer = self._taken(readers & ~mask, (self.open[bit], chain))
            same.append((uses | (to << width) | mask | bit | readers, longer))
        for group in self.usable:
            to = group.table.get(state)
            if to is None:
                to = move(group.kind, state)
            if to < 0 or to == state:
                continue
            used = (config >> group.shift) & self.field_mask
            if used >= group.available:
                continue
            readers = legal_readers.get(to)
            if readers is None:
                readers = self._readers_of(to)
            longer = self._taken(readers & ~mask, (group.members[used], chain))
            more.append(((uses + group.unit) | (to << width) | mask | readers, longer))

    def _prefixes(self) -> list[Prefix]:
        """The longest of the explanations that led nowhere."""
        found = sorted([(_length(chain), config, chain) for config, chain in self.explored], key=lambda one: -one[0])
        state_mask = (1 << _STATE_BITS) - 1
        prefixes: list[Prefix] = []
        shown: set[tuple[int, ...]] = set()
        for length, config, chain in found:
            if length < found[0][0] or len(prefixes) >= _EXPLAINED:
                break
            taken = _unrolled(chain)
            if tuple(taken) in shown:
                continue
            shown.add(tuple(taken))
            illegal = sorted(number for bit, number in self.open.items() if not config & bit)
            prefixes.append(Prefix(taken, self.machine.states[(config >> self.width) & state_mask], illegal))
        return prefixes


def decide(part: Partition, machine: Machine, budget: Budget) -> Finding:
    """Search with the cheap questions asked in between when crashed calls make it costly; steps add up."""
    if -1 not in part.ends or budget.steps <= _FIRST_STEPS:
        return Search(part, machine, budget).run()
    spent = 0
    peak = 1
    found = Finding(None, 0, 0, 0)
    for ways, share in (
        (EXACT, _FIRST_STEPS), (FEW, budget.steps // _SHARE), (UNCOUNTED, budget.steps // _SHARE),
        (EXACT, budget.steps),
    ):  # fmt: skip
        allowed = Budget(min(share, budget.steps - spent), budget.configs, budget.deadline_s, budget.clock)
        search = Search(part, machine, allowed, ways)
        found = search.run()
        spent += found.steps
        peak = max(peak, found.configs_peak)
        answer = found.linearizable
        sound = ways == EXACT or (ways == FEW and (answer or not search.dropped)) or (ways == UNCOUNTED and not answer)
        if answer is not None and sound:
            break
    found.steps, found.configs_peak = spent, peak
    if found.linearizable is None and spent > budget.steps:
        found.why = f"{budget.steps} steps"
    return found


def _length(chain: Chain) -> int:
    length = 0
    while chain is not None:
        length += 1
        chain = chain[1]
    return length


def _unrolled(chain: Chain) -> list[int]:
    taken: list[int] = []
    while chain is not None:
        taken.append(chain[0])
        chain = chain[1]
    taken.reverse()
    return taken

"""Histories of collections that behaved, made by dice: clients at once, each call taking effect at one instant."""

import random

from jstyle.history.op import Op

STEP_NS = 1_000_000


class Recorder:
    """Runs calls of concurrent clients. ``apply(now_ms)`` of a call gives (type, value, error) when it takes effect.

    A call that is never answered takes effect at some later time or never; its client goes on as another process.
    """

    def __init__(self, seed, clients=4, crash=0.1, step_ns=STEP_NS):
        self.random = random.Random(seed)
        self.ops = []
        self.clients = clients
        self.processes = list(range(clients))
        self.crash = crash
        self.step_ns = step_ns
        self.pending = [None] * clients
        self.late = []
        # Whose call takes effect.
        self.acting = 0

    @property
    def now_ms(self):
        return len(self.ops) * self.step_ns // 1_000_000

    def _record(self, process, type, f, value, key, error=None, req=None):
        index = len(self.ops)
        self.ops.append(Op(index, index * self.step_ns, process, type, f, value, error, key, req=req))

    def run(self, calls, draw):
        """``draw(random, n)`` gives (f, key, value, apply) or (f, key, value, apply, req)."""
        begun = 0
        while begun < calls or any(self.pending):
            at = self.random.randrange(self.clients)
            open_call = self.pending[at]
            if open_call is None:
                if begun < calls:
                    f, key, value, apply, *req = draw(self.random, begun)
                    self._record(self.processes[at], "invoke", f, value, key, req=req[0] if req else None)
                    self.pending[at] = [f, key, value, apply, None, req[0] if req else None]
                    begun += 1
                continue
            f, key, value, apply, outcome, req = open_call
            if outcome is None and self.random.random() < self.crash:
                self._record(self.processes[at], "info", f, value, key, req=req)
                self.processes[at] += self.clients
                self.pending[at] = None
                self.late.append(apply)
            elif outcome is None:
                self.acting = self.processes[at]
                open_call[4] = apply(self.now_ms)
            else:
                kind, answer, error = outcome
                self._record(self.processes[at], kind, f, answer, key, error, req)
                self.pending[at] = None
            if self.late and self.random.random() < 0.1:
                self.late.pop(self.random.randrange(len(self.late)))(self.now_ms)
        return self

    def call(self, f, value, apply, key=None):
        """One more call, alone and answered."""
        self._record(self.processes[0], "invoke", f, value, key)
        self.acting = self.processes[0]
        kind, answer, error = apply(self.now_ms)
        self._record(self.processes[0], kind, f, answer, key, error)
        return self


def ops_of(*steps):
    """Operations from (process, type, f, value) or (process, type, f, value, fields)."""
    return [
        Op(at, at * 1000, process, kind, f, value, **(rest[0] if rest else {}))
        for at, (process, kind, f, value, *rest) in enumerate(steps)
    ]


def names(verdict):
    return sorted({anomaly.name for anomaly in verdict.anomalies})

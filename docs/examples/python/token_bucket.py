"""Rate limit with a token bucket: bursts up to a capacity, refilled at a steady rate, in one script.

Relies on scripts being one log entry with the entry's time: all callers share one clock, whatever node they ask, and
no token is taken twice. After an unknown outcome tokens may be gone; they come back with the refill.
"""

import argparse

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

TAKE = """
local key, capacity, rate_per_s, wanted = KEYS[1], tonumber(ARGV[1]), tonumber(ARGV[2]), tonumber(ARGV[3])
local time = redis.call('TIME')
local now_s = time[1] + time[2] / 1000000
local bucket = redis.call('HMGET', key, 'tokens', 'at')
local tokens, at = tonumber(bucket[1]) or capacity, tonumber(bucket[2]) or now_s
tokens = math.min(capacity, tokens + math.max(0, now_s - at) * rate_per_s)
local wait_ms = 0
if tokens >= wanted then tokens = tokens - wanted else wait_ms = math.ceil((wanted - tokens) / rate_per_s * 1000) end
redis.call('HSET', key, 'tokens', string.format('%.6f', tokens), 'at', string.format('%.6f', now_s))
redis.call('PEXPIRE', key, math.ceil(capacity / rate_per_s * 1000) + 1000)
return wait_ms
"""


class TokenBucket:
    """Holds up to ``capacity`` tokens; ``rate_per_s`` of them are added each second."""

    def __init__(self, r: redis.Redis, capacity: int, rate_per_s: float) -> None:
        self.capacity = capacity
        self.rate_per_s = rate_per_s
        self.script = r.register_script(TAKE)

    def take(self, who: str, tokens: int = 1) -> int:
        """0 when the tokens were taken, else the milliseconds after which they will be there."""
        if tokens > self.capacity:
            raise ValueError(f"{tokens} tokens are more than the bucket holds; ask for at most {self.capacity}")
        return int(self.script(keys=[f"bucket:{who}"], args=[self.capacity, self.rate_per_s, tokens]))


def main() -> None:
    """A burst of five where three tokens are there."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=6379)
    with redis.Redis(port=parser.parse_args().port, retry=Retry(NoBackoff(), 0)) as r:
        r.delete("bucket:ann")
        bucket = TokenBucket(r, capacity=3, rate_per_s=0.1)
        waits_ms = [bucket.take("ann") for _ in range(5)]
        print("taken", waits_ms.count(0), "of 5")
        print("the next in about", round(waits_ms[-1] / 1000), "s")


if __name__ == "__main__":
    main()

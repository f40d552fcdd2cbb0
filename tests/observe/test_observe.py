"""Counters, slow log, latency, MONITOR, INFO selection and log lines."""

from __future__ import annotations

import json

from durakv.config.settings import Settings
from durakv.observe.events import ConfigChanged, MembersChanged, RoleChanged, SlowSync
from durakv.observe.info import Info, human_bytes
from durakv.observe.latency import LatencyMonitor
from durakv.observe.log import LineLog
from durakv.observe.monitor import Monitors
from durakv.observe.redact import HIDDEN, redacted
from durakv.observe.slowlog import SlowLog, shortened
from durakv.observe.stats import Stats
from durakv.world.real_process import RealProcess
from tests.commands.fake_services import FakeClock, FakeNode, run


def test_fsync_percentiles_bound_the_samples():
    stats = Stats()
    for usec in [100] * 98 + [5000, 90_000]:
        stats.fsync(usec)
    assert 100 <= stats.fsync_percentile_us(50) <= 160
    assert 5000 <= stats.fsync_percentile_us(99) <= 8192
    assert stats.fsync_percentile_us(100) == 90_000
    assert Stats().fsync_percentile_us(99) == 0


def test_every_duration_lies_in_its_bucket():
    for usec in range(1, 5000):
        stats = Stats()
        stats.fsync(usec)
        stats.fsync_max_us = 1 << 40
        top = stats.fsync_percentile_us(100)
        assert usec <= top <= usec * 2 + 1, (usec, top)


def test_rates_are_per_second():
    stats = Stats()
    stats.sample(1000)
    for n in range(1, 17):
        stats.commands += 50
        stats.bytes_in += 100
        stats.sample(1000 + n * 100)
    assert stats.rates() == (500, 1000, 0)


def test_errors_are_counted_by_prefix_up_to_a_bound():
    stats = Stats()
    for n in range(300):
        stats.error(f"E{n} text")
    stats.error("E1 again")
    assert (len(stats.error_counts), stats.error_counts["E1"], stats.errors) == (128, 2, 301)
    stats.reset()
    assert (stats.errors, stats.error_counts) == (0, {})


def test_slowlog_keeps_the_newest_and_hides_secrets():
    log = SlowLog(threshold_us=10, length_max=2)
    log.note(9, [b"GET", b"fast"], "a:1", b"", 1000)
    for n in range(3):
        log.note(10 + n, [b"AUTH", b"pw"], "a:1", b"n", 1000 * n)
    assert [(e.entry_id, e.took_us, e.at_s, e.argv) for e in log.newest(-1)] == [
        (2, 12, 2, [b"AUTH", HIDDEN]), (1, 11, 1, [b"AUTH", HIDDEN]),
    ]  # fmt: skip
    log.threshold_us = -1
    log.note(10**9, [b"GET"], "a:1", b"", 0)
    assert len(log.entries) == 2


def test_slowlog_shortens_as_valkey_does():
    assert shortened([b"x"] * 40)[30:] == [b"x", b"... (9 more arguments)"]
    assert len(shortened([b"x"] * 32)) == 32
    assert shortened([b"y" * 130]) == [b"y" * 128 + b"... (2 more bytes)"]


def test_redaction_covers_every_way_to_send_a_secret():
    assert redacted([b"HELLO", b"3", b"AUTH", b"u", b"p", b"SETNAME", b"n"])[3:5] == [HIDDEN, HIDDEN]
    assert redacted([b"config", b"set", b"timeout", b"1", b"RequirePass", b"p"])[3:] == [b"1", b"RequirePass", HIDDEN]
    assert redacted([b"ACL", b"SETUSER", b"u", b">p"]) == [b"ACL", b"SETUSER", HIDDEN, HIDDEN]
    assert redacted([b"MIGRATE", b"h", b"1", b"k", b"0", b"5", b"AUTH2", b"u", b"p"])[7:] == [HIDDEN, HIDDEN]
    assert redacted([b"SET", b"AUTH", b"x"]) == [b"SET", b"AUTH", b"x"]


def test_latency_keeps_the_worst_of_a_second():
    monitor = LatencyMonitor(100)
    monitor.note("command", 99, 1000)
    for took, at in ((100, 1000), (300, 1900), (200, 2000)):
        monitor.note("command", took, at)
    spikes = monitor.events["command"]
    assert (list(spikes.samples), spikes.worst_ms, spikes.count) == ([(1, 300), (2, 200)], 300, 3)
    assert monitor.reset(["nope"]) == 0
    assert monitor.reset([]) == 1


def test_monitor_lines_are_valkeys():
    node = FakeNode()
    watcher, busy = node.client(), node.client()
    busy.db = 3
    woken = []
    monitors = Monitors(woken.append)
    monitors.add(watcher)
    monitors.feed(busy, [b"set", b"k\n\x00", b'"q"'], 1_700_000_000_123_456)
    assert watcher.out == [b'+1700000000.123456 [3 127.0.0.1:50002] "set" "k\\n\\x00" "\\"q\\""\r\n']
    assert woken == [watcher]
    monitors.forget(watcher)
    assert not monitors.watchers


def test_info_selects_sections():
    info = Info()
    info.add("Server", lambda: [("a", 1)])
    info.add("Commandstats", lambda: [("b", 2)], rare=True)
    assert info.render([]) == "# Server\r\na:1\r\n"
    assert info.render(["commandSTATS"]) == "# Commandstats\r\nb:2\r\n"
    assert info.render(["all"]) == info.render(["everything"]) == "# Server\r\na:1\r\n\r\n# Commandstats\r\nb:2\r\n"
    assert info.render(["default", "commandstats"]).count("#") == 2
    assert info.render(["nope"]) == ""


def test_human_bytes():
    assert [human_bytes(n) for n in (0, 1023, 1024, 1020536, 25276514304)] == [
        "0B", "1023B", "1.00K", "996.62K", "23.54G",
    ]  # fmt: skip


def lines(log_format: str, loglevel: str, *events) -> list[str]:
    settings = Settings()
    settings.set("log-format", log_format)
    settings.set("loglevel", loglevel)
    out: list[str] = []
    log = LineLog(settings, FakeClock(), 3, out.append)
    for event in events:
        log.event(event)
    return out


def test_log_lines_in_three_formats():
    event = RoleChanged("leader", 7, 3)
    assert lines("logfmt", "notice", event) == [
        "time=2023-11-14T22:13:20.000Z level=notice node=3 event=role-changed role=leader term=7 leader_id=3\n"
    ]
    (line,) = lines("json", "notice", SlowSync(900, 10))
    assert json.loads(line) == {"time": "2023-11-14T22:13:20.000Z", "level": "warning", "node": 3,
                                "event": "slow-sync", "took_ms": 900, "pending_bytes": 10}  # fmt: skip
    assert lines("legacy", "notice", event) == [
        "3:M 14 Nov 2023 22:13:20.000 * role-changed role=leader term=7 leader_id=3\n"
    ]


def test_log_lines_stay_one_line_and_quote():
    (line,) = lines("logfmt", "notice", ConfigChanged(("a b", "c\nd")))
    assert line.endswith('names="a b,c\\nd"\n')
    assert line.count("\n") == 1
    assert lines("logfmt", "notice", MembersChanged(5, (1, 2), ()))[0].endswith('index=5 voters=1,2 learners=""\n')


def test_loglevel_filters():
    assert lines("logfmt", "warning", RoleChanged("leader", 1, 1), SlowSync(1, 1))[0].count("slow-sync") == 1
    assert lines("logfmt", "nothing", SlowSync(1, 1)) == []


def test_real_process_tells_plausible_facts():
    process = RealProcess()
    assert 1 << 20 < process.rss_bytes() < process.total_memory_bytes()
    assert process.open_files() >= 3
    assert all(seconds >= 0 for seconds in process.cpu_seconds())


def test_info_counts_calls_and_resets():
    node = FakeNode()
    s = node.client()
    run(node, s, "PING")
    node.stats.took("ping", 30_000)
    node.stats.error("ERR x")
    text = run(node, s, "INFO commandstats errorstats").text.decode()
    assert "cmdstat_ping:calls=1,usec=30,usec_per_call=30.00,rejected_calls=0,failed_calls=0" in text
    assert "errorstat_ERR:count=1" in text
    run(node, s, "CONFIG RESETSTAT")
    assert "ping" not in run(node, s, "INFO commandstats").text.decode()

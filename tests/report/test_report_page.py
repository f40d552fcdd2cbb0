"""What is on the page: every kind of anomaly, verdicts in their colours, and nothing that a history could break."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Verdict
from jstyle.history.op import Op
from jstyle.report import timeline_view
from jstyle.report.gather import Wanted, gather
from jstyle.report.markup import tag, visible, words
from jstyle.report.model import Held, Judged, Report, Run, Sample, Window
from jstyle.report.page import page

GOLDEN = Path(__file__).parent.parent / "checkers" / "golden"
HOSTILE = "</script><script>alert(1)</script><img src=x onerror=alert(2)>\"'&\u202e\x00\ud800"
VOID = {"meta", "br", "input", "col"}


class Parsed(HTMLParser):
    """Tags in balance, and everything the tests ask about."""

    def __init__(self, text):
        super().__init__(convert_charrefs=True)
        self.open = []
        self.tags = []
        self.text = {}
        self.ids = []
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        found = dict(attrs)
        self.tags.append((tag, found))
        if found.get("id"):
            self.ids.append(found["id"])
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag

    def handle_data(self, data):
        self.text.setdefault(self.open[-1] if self.open else "", []).append(data)

    def classes(self, name):
        return [attrs["class"] for tag, attrs in self.tags if tag == name and attrs.get("class")]


def of_golden(name):
    return page(gather([GOLDEN / f"{name}.jsonl"], Wanted()))


def history(value=1, process=0, f="write"):
    return [
        Op(0, 0, process, "invoke", f, value, key="k", node="n1"),
        Op(1, 2_000_000, process, "ok", f, value, key="k", node="n1"),
        Op(2, 3_000_000, process, "invoke", "read", None, key="k"),
        Op(3, 9_000_000, process, "info", "read", None, "timeout", key="k"),
    ]


@pytest.mark.parametrize(
    "name",
    ["linear/stale-read", "linear/block-torn", "linear/independent-pairs-one-stale", "append/read-skew",
     "append/garbage-read", "wr/write-cycle", "append/one-after-another", "linear/empty"],
)  # fmt: skip
def test_a_page_is_whole_and_asks_nobody_for_anything(name):
    text = of_golden(name)
    found = Parsed(text)
    assert not re.search(r"https?:|//[a-z]|url\((?!#)|@import|@font-face", text)
    for tag_name, attrs in found.tags:
        assert tag_name not in {"link", "iframe", "object", "img", "form", "base"}
        assert not any(attr.startswith("on") or attr in {"src", "style"} for attr in attrs)
        target = attrs.get("href")
        assert target is None or target.removeprefix("#") in found.ids
    assert len(found.ids) == len(set(found.ids))


def test_hostile_strings_stay_text():
    ops = history(value=HOSTILE, f=HOSTILE)
    ops[0].key = ops[1].key = ops[1].error = ops[0].node = HOSTILE
    cycle = [{"op": 1, "edge": HOSTILE, "key": HOSTILE, "why": HOSTILE}, {"op": 3, "edge": "rw", "key": 1, "why": 2}]
    prefix = {"taken": [0], "state": HOSTILE, "illegal": [2]}
    anomalies = [
        Anomaly(HOSTILE, HOSTILE, [0, 1], HOSTILE, {"cycle": cycle, "rules_out": [HOSTILE]}),
        Anomaly("stale", HOSTILE, [1], HOSTILE, {"at": 1, "prefixes": [prefix]}),
        Anomaly("odd", "odd", [1, 99], None, {"cycle": [HOSTILE, {"op": HOSTILE}], "prefixes": HOSTILE}),
        Anomaly("open", "open", [1], None, {"component": [1, HOSTILE], "unfinished": True}),
    ]
    verdict = Verdict(HOSTILE, FALSE, anomalies, {HOSTILE: 3}, HOSTILE)
    report = Report(
        HOSTILE, [(HOSTILE, HOSTILE)], {HOSTILE: HOSTILE}, [Judged(HOSTILE, HOSTILE, ops, [verdict])],
        [Held(HOSTILE, FALSE, HOSTILE)], [Window(HOSTILE, 0, 5, HOSTILE)], [Sample(0, HOSTILE, HOSTILE, 1, 1)],
        [HOSTILE], [HOSTILE], [Run(HOSTILE, FALSE, HOSTILE, HOSTILE, HOSTILE, {HOSTILE: {"ok": 1}}, {HOSTILE: 1})],
    )  # fmt: skip
    text = page(report)
    text.encode("utf-8")
    found = Parsed(text)
    assert [name for name, _ in found.tags].count("script") == 1
    assert "img" not in [name for name, _ in found.tags]
    assert "alert(1)" not in "".join(found.text["script"])
    assert not {"\u202e", "\x00", "\ud800"} & set(text)
    assert "&lt;/script&gt;&lt;script&gt;" in text


def test_the_policy_allows_the_one_script_alone():
    text = of_golden("linear/stale-read")
    policy = next(a["content"] for _, a in Parsed(text).tags if a.get("http-equiv") == "Content-Security-Policy")
    assert policy is not None and policy.startswith("default-src 'none';") and "script-src 'sha256-" in policy


@pytest.mark.parametrize(
    ("valid", "shade"), [(TRUE, "yes"), (FALSE, "no"), (UNKNOWN, "maybe"), ("nonsense", "maybe")]
)  # fmt: skip
def test_only_a_true_verdict_is_green(valid, shade):
    judged = Judged("h", "register", history(), [Verdict("linear", valid, why="because")])
    found = Parsed(page(Report("t", judged=[judged])))
    assert [name for name in found.classes("span") if name.startswith("pill")] == [f"pill {shade}"]
    assert found.classes("header") == [f"top {shade}"]
    found = Parsed(page(Report("t", held=[Held("R1", TRUE)], runs=[Run("r", valid)])))
    pills = [name for name in found.classes("span") if name.startswith("pill")]
    assert pills == ["pill yes", f"pill {shade}"]
    assert found.classes("header") == [f"top {shade}"]


def test_a_history_nobody_judged_is_unknown():
    report = Report("t", judged=[Judged("h", "", history())])
    assert report.valid() == UNKNOWN
    assert "top maybe" in Parsed(page(report)).classes("header")
    assert Report("nothing").valid() == UNKNOWN


def test_the_partial_order_and_where_it_ends_are_drawn():
    text = of_golden("linear/stale-read")
    found = Parsed(text)
    assert found.classes("polyline") == ["order"]
    assert found.classes("g").count("dot") == 2
    assert found.classes("path").count("cross") == 1
    assert "op ok accused" in found.classes("g")
    assert "Jump to first error" in text and "which leaves the value <b>2</b>" in text
    assert 'href="#anomaly-0-0"' in text


def test_a_cycle_is_a_graph_and_sentences():
    text = of_golden("append/read-skew")
    found = Parsed(text)
    assert found.classes("g").count("txn") == 2
    assert sorted(name for name in found.classes("path") if name.startswith("link")) == ["link rw", "link wr"]
    assert "<b>T2 &lt; T3</b> because T3 read 1 in y, which T2 appended" in text
    assert "<b>consistent-view</b>" in text


def test_a_search_that_gave_up_lists_its_transactions():
    ops = history()
    anomaly = Anomaly("G2-item", "gave up", [1, 3], None, {"component": [1, 3], "unfinished": True, "rules_out": []})
    text = page(Report("t", judged=[Judged("h", "append", ops, [Verdict("elle-append", FALSE, [anomaly])])]))
    assert Parsed(text).classes("span").count("chip") == 2
    assert "the search ended before it found a short cycle" in text


def test_a_long_cycle_is_told_and_not_drawn():
    steps = [{"op": n, "edge": "ww", "key": "x", "why": f"of {n}"} for n in range(30)]
    anomaly = Anomaly("G0", "long", list(range(30)), None, {"cycle": steps})
    text = page(Report("t", judged=[Judged("h", "append", history(), [Verdict("elle-append", FALSE, [anomaly])])]))
    assert "30 transactions, too many to draw" in text
    assert "<b>T29 &lt; T0</b> because of 29" in text


def test_faults_leaders_and_nodes_are_drawn_over_time():
    samples = [Sample(0, "n1", "leader", 2, 5), Sample(4_000_000, "n1", "down", 2)]
    samples.append(Sample(5_000_000, "n2", "leader", 3, 9))
    windows = [Window("partition", 1_000_000, 4_000_000, "n1 | n2"), Window("kill", 2_000_000, -1)]
    judged = Judged("h", "register", history(), [Verdict("linear", TRUE, counts={"calls": 2})])
    found = Parsed(page(Report("t", judged=[judged], windows=windows, samples=samples)))
    tips = [attrs["data-tip"] or "" for _, attrs in found.tags if attrs.get("data-tip")]
    assert "partition n1 | n2\nfrom 1 ms, until 4 ms" in tips
    assert "kill\nfrom 2 ms, never ended" in tips
    assert "n1 leads term 2\nfrom 0 µs until 4 ms" in tips and "n2 leads term 3\nfrom 5 ms until 9 ms" in tips
    assert "n1: down in term 2\nfrom 4 ms until 9 ms" in tips
    assert "shade" in found.classes("rect")


def test_never_tried_pairs_are_red_zeros():
    runs = [Run("a", TRUE, ops={"append": {"ok": 3}}, faults={"kill": 2}), Run("b", TRUE, ops={"bank": {"fail": 3}})]
    text = page(Report("t", runs=runs), ("append", "set"), ("kill", "rot"))
    cells = [name for name in Parsed(text).classes("td") if name.startswith(("zero", "some"))]
    assert len(cells) == 6 and cells.count("zero") == 5
    assert "append under kill: 1 runs, 2 faults, 3 operations answered ok" in text


def test_the_timeline_is_bounded(monkeypatch):
    ops = []
    for n in range(900):
        ops += [Op(2 * n, n, n % 3, "invoke", "write", n), Op(2 * n + 1, n, n % 3, "ok", "write", n)]
    judged = Judged("h", "register", ops, [Verdict("linear", FALSE, [Anomaly("x", "x", [1001])])])
    assert "the 600 nearest of 900 calls" in page(Report("t", judged=[judged]))
    monkeypatch.setattr(timeline_view, "CAP", 50)
    drawn = Parsed(timeline_view.timeline(judged, judged.anomalies()[0][1], []))
    assert drawn.classes("g").count("op ok") == 49 and drawn.classes("g").count("op ok accused") == 1


def test_a_history_without_times_has_no_strips():
    ops = [Op(0, -1, 0, "invoke", "read"), Op(1, -1, 0, "ok", "read", 1)]
    text = page(Report("t", judged=[Judged("h", "register", ops)]))
    assert "Over time" not in text and "read → 1" in text


def test_markup_escapes_and_spells_out():
    assert tag("p", {"title": '"<', "hidden": True, "lang": None}, "a<b") == '<p title="&quot;&lt;" hidden>a&lt;b</p>'
    assert visible("a\u202eb\x1bc\n") == "a\\u202eb\\x1bc\n"
    assert words([["append", "x", 1], None, True, "two words"]) == "[[append x 1] nil true 'two words']"

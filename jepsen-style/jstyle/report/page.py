"""A ``Report`` as one HTML file that needs nothing else: no network, no fonts, no scripts but its own.

Rule: the only place that knows the order of the page. A policy in its head forbids every request and every script but
the one it was written with, so that no history can make it do anything.
"""

from __future__ import annotations

from base64 import b64encode
from collections.abc import Iterator, Sequence
from hashlib import sha256
from typing import Final

from jstyle.checkers.verdict import FALSE, TRUE, UNKNOWN, Anomaly, Verdict
from jstyle.history.op import Op, is_client
from jstyle.report import cycle_view, linear_view, promises
from jstyle.report.cluster_view import cluster_view
from jstyle.report.coverage import matrix, pill, run_list
from jstyle.report.markup import Html, join, shortened, tag, words
from jstyle.report.model import Judged, Report
from jstyle.report.script import SCRIPT
from jstyle.report.strips import axis_of, strips
from jstyle.report.style import STYLE
from jstyle.report.timeline_view import timeline

# Anomalies of one history that are shown, and those of them with a picture.
_SHOWN: Final = 40
_DRAWN: Final = 8
_OPS_LISTED: Final = 12

_HEADLINES: Final = {
    TRUE: ("yes", "Every promise that was checked holds."),
    FALSE: ("no", "A promise is broken."),
    UNKNOWN: ("maybe", "Nothing was found broken, but not everything could be decided."),
}


def page(report: Report, workloads: Sequence[str] = (), classes: Sequence[str] = ()) -> str:
    """The file's text. ``workloads`` and ``classes`` name the rows and columns that the matrix must show."""
    digest = b64encode(sha256(SCRIPT.encode()).digest()).decode()
    policy = f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{digest}'; base-uri 'none'"
    head = tag(
        "head", None,
        tag("meta", {"charset": "utf-8"}),
        tag("meta", {"http-equiv": "Content-Security-Policy", "content": policy}),
        tag("meta", {"name": "viewport", "content": "width=device-width, initial-scale=1"}),
        tag("title", None, f"{_WORD[report.valid()]}: {report.title}"),
        tag("style", None, Html(STYLE)),
    )  # fmt: skip
    main = tag("main", None, *_sections(report, workloads, classes))
    body = tag("body", None, main, tag("div", {"id": "tip", "role": "tooltip"}), tag("script", None, Html(SCRIPT)))
    return f"<!DOCTYPE html>\n{tag('html', {'lang': 'en'}, head, body)}\n"


_WORD: Final = {TRUE: "holds", FALSE: "broken", UNKNOWN: "unknown"}


def _sections(report: Report, workloads: Sequence[str], classes: Sequence[str]) -> list[Html]:
    parts: list[tuple[str, str, Html]] = [("verdicts", "Verdicts", _verdicts(report))]
    if report.runs:
        parts.append(("runs", "Runs", run_list(report.runs)))
        parts.append(("coverage", "Workloads and faults", matrix(report.runs, workloads, classes)))
    numbers = iter(range(1, 1 << 30))
    for at, judged in enumerate(report.judged):
        if judged.anomalies():
            parts.append((f"anomalies-{at}", f"Anomalies{_of(report, judged)}", _anomalies(judged, at, numbers)))
    history = _merged(report.judged)
    axis = axis_of(history, report.windows, report.samples)
    if axis is not None:
        parts.append(("time", "Over time", strips(history, report.windows, report.samples, axis)))
        if report.samples:
            parts.append(("cluster", "Nodes", cluster_view(report.samples, axis)))
    for at, judged in enumerate(report.judged):
        first = judged.anomalies()[0][1] if judged.anomalies() else None
        drawn = timeline(judged, first, report.windows, at_end=any(held.valid == FALSE for held in report.held))
        if at and first is None:
            drawn = tag("details", None, tag("summary", None, f"{len(judged.ops):,} operations"), drawn)
        parts.append((f"operations-{at}", f"Operations{_of(report, judged)}", drawn))
    parts.append(("about", "About this run", _about(report)))
    if report.missing:
        items = [tag("li", None, text) for text in report.missing]
        parts.append(("missing", "Not shown", tag("ul", {"class": "missing"}, *items)))
    links = [tag("a", {"href": f"#{name}"}, title) for name, title, _ in parts]
    out = [_header(report, links)]
    out += [tag("section", {"id": name}, tag("h2", None, title), body) for name, title, body in parts]
    return out


def _of(report: Report, judged: Judged) -> str:
    return f" of {judged.name}" if len(report.judged) > 1 else ""


def _header(report: Report, links: list[Html]) -> Html:
    shade, text = _HEADLINES[report.valid()]
    return tag(
        "header", {"class": f"top {shade}"},
        tag("h1", None, report.title), tag("p", {"class": "verdict"}, text), tag("nav", None, *links),
    )  # fmt: skip


def _merged(judged: Sequence[Judged]) -> list[Op]:
    """All client operations in one order, an operation that is in two histories once."""
    if len(judged) == 1:
        return judged[0].ops
    found: dict[int, Op] = {}
    for one in judged:
        for op in one.ops:
            if is_client(op):
                found.setdefault(op.index, op)
    return [found[index] for index in sorted(found)]


# -- verdicts ----------------------------------------------------------------------------------------------------------


def _verdicts(report: Report) -> Html:
    rows = [
        _row(held.promise, held.valid, promises.of_promise(held.promise), held.text or _plain(held.valid), held.counts)
        for held in report.held
    ]
    for at, judged in enumerate(report.judged):
        many = len(report.judged) > 1
        for number, verdict in enumerate(judged.verdicts):
            name = f"{judged.name}: {verdict.checker}" if many else verdict.checker
            link: Html | None = None
            if verdict.anomalies:
                before = sum(len(earlier.anomalies) for earlier in judged.verdicts[:number])
                target = f"#anomaly-{at}-{before}" if before < _SHOWN else f"#anomalies-{at}"
                link = tag("a", {"href": target}, "first anomaly")
            text = _said(verdict)
            rows.append(_row(name, verdict.valid, promises.of_checker(verdict.checker), text, verdict.counts, link))
        if not judged.verdicts:
            rows.append(_row(judged.name, UNKNOWN, "", "No checker has judged this history.", {}))
    if not rows:
        return tag("p", {"class": "note"}, "Nothing was judged.")
    names = ("verdict", "promise", "in words", "looked at")
    head = tag("tr", None, *[tag("th", {"scope": "col"}, name) for name in names])
    table = tag("table", {"class": "verdicts"}, tag("thead", None, head), tag("tbody", None, *rows))
    return tag("div", {"class": "scroll"}, table)


def _row(name: str, valid: str, about: str, text: str, counts: dict[str, int], link: Html | None = None) -> Html:
    shown = [
        part
        for what, count in counts.items()
        for part in (tag("span", None, f"{what.replace('_', ' ')} ", tag("b", None, f"{count:,}")), " ")
    ]
    inside = [tag("p", None, shortened(text, 600), " ", link or "")]
    inside += [tag("p", {"class": "note"}, about)] if about else []
    return tag(
        "tr", None,
        tag("td", None, pill(valid)),
        tag("th", {"scope": "row"}, name),
        tag("td", None, *inside),
        tag("td", {"class": "counts"}, *shown),
    )  # fmt: skip


def _plain(valid: str) -> str:
    return {TRUE: "Held at every step.", FALSE: "Broken."}.get(valid, "Not decided.")


def _said(verdict: Verdict) -> str:
    """A verdict in a sentence."""
    tally: dict[str, int] = {}
    for anomaly in verdict.anomalies:
        tally[anomaly.name] = tally.get(anomaly.name, 0) + 1
    found = ", ".join(f"{count} {name}" for name, count in tally.items())
    if verdict.valid == FALSE:
        return f"Broken: {found or verdict.why or 'the checker does not say how'}."
    if verdict.valid == TRUE:
        allowed = f" Seen but allowed: {found}." if found else ""
        return f"Holds for everything that was looked at.{allowed}"
    return f"Not decided: {verdict.why or 'the checker does not say why'}." + (f" Seen: {found}." if found else "")


# -- anomalies ---------------------------------------------------------------------------------------------------------


def _anomalies(judged: Judged, at: int, numbers: Iterator[int]) -> Html:
    found = judged.anomalies()
    parts: list[Html] = []
    by_index = {op.index: op for op in judged.ops}
    for number, (_, anomaly) in enumerate(found[:_SHOWN]):
        key = "" if anomaly.key is None else f" · key {words(anomaly.key, 80)}"
        head = tag("h3", None, tag("span", {"class": "name"}, anomaly.name), key)
        drawn = number < _DRAWN
        picture = _picture(judged, anomaly, next(numbers)) if drawn else Html("")
        # The edges of a cycle are its text, one to a line.
        told = drawn and cycle_view.steps_of(anomaly)
        text = Html("") if told else tag("p", {"class": "text"}, shortened(anomaly.text, 900))
        involved = _involved(anomaly, by_index)
        place = {"class": "anomaly", "id": f"anomaly-{at}-{number}"}
        parts.append(tag("article", place, head, text, picture, involved))
    if len(found) > _SHOWN:
        parts.append(tag("p", {"class": "note"}, f"{len(found) - _SHOWN} further anomalies are not shown."))
    return join(parts)


def _picture(judged: Judged, anomaly: Anomaly, number: int) -> Html:
    if linear_view.can_draw(anomaly):
        return linear_view.linear_view(judged.ops, anomaly, number)
    if cycle_view.can_draw(anomaly):
        return cycle_view.cycle_view(judged.ops, anomaly, number)
    return Html("")


def _involved(anomaly: Anomaly, by_index: dict[int, Op]) -> Html:
    """The operations an anomaly names, as they were recorded."""
    rows = []
    for index in anomaly.ops[:_OPS_LISTED]:
        op = by_index.get(index)
        cells: list[object] = [index]
        if op is None:
            cells += ["", "", "not in this history", "", "", ""]
        else:
            time = "" if op.time < 0 else f"{op.time / 1e6:,.3f} ms"
            key = "" if op.key is None else words(op.key, 60)
            error = f" ({shortened(op.error, 200)})" if op.error else ""
            cells += [time, op.process, op.type, op.f, key, words(op.value, 160) + error]
        rows.append(tag("tr", None, *[tag("td", None, cell) for cell in cells]))
    if not rows:
        return Html("")
    heads = ("operation", "time", "process", "type", "what", "key", "value")
    head = tag("tr", None, *[tag("th", {"scope": "col"}, name) for name in heads])
    table = tag("table", {"class": "ops"}, tag("thead", None, head), tag("tbody", None, *rows))
    more = f", the first {_OPS_LISTED} of {len(anomaly.ops)}" if len(anomaly.ops) > _OPS_LISTED else ""
    summary = tag("summary", None, f"Operations involved{more}")
    return tag("details", None, summary, tag("div", {"class": "scroll"}, table))


# -- the rest ----------------------------------------------------------------------------------------------------------


def _about(report: Report) -> Html:
    facts = list(report.facts)
    for judged in report.judged:
        done = [op for op in judged.ops if is_client(op)]
        processes = len({op.process for op in done})
        about = f"{len(done):,} client operations by {processes} processes"
        facts.append((judged.name, f"{about}, workload {judged.workload}" if judged.workload else about))
    rows = [part for name, value in facts for part in (tag("dt", None, name), tag("dd", None, value))]
    parts: list[Html] = [tag("h3", None, "See it again")] if report.repeat else []
    parts += [tag("pre", None, tag("code", None, line)) for line in report.repeat]
    parts.append(tag("dl", None, *rows))
    for name, text in report.details.items():
        parts.append(tag("details", None, tag("summary", None, name), tag("pre", None, text)))
    return join(parts)

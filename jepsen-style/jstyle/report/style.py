"""The page's looks: one sheet for light and dark, chosen by the reader's system.

Rule: a constant;
  every colour is named once per theme, and colours of text have at least 4.5:1 against what they stand
on. Red means one thing only: something is wrong.
"""

from __future__ import annotations

from typing import Final

STYLE: Final = """
:root { color-scheme: light dark;
  --page:#f6f7f9; --card:#fff; --line:#dde1e7; --soft:#eef1f5; --text:#1b2330; --dim:#586272; --link:#1257a8;
  --yes:#13693a; --yes-back:#dcf3e4; --no:#a8171d; --no-back:#fde3e2; --maybe:#7a4a00; --maybe-back:#fdeecb;
  --red:#d0252b; --ok:#bcd9f2; --ok-edge:#3b7fb8; --ok-dot:#2f7ab8; --fail:#dcdfe5; --fail-edge:#868f9d;
  --fail-dot:#7f8896; --info:#fbdf9f; --info-edge:#bb8414; --info-dot:#c98a0c; --bar-text:#152232;
  --shade:#7c5cd01f; --fault:#8466cf; --order:#0b6b4f; --dot:#0b6b4f; --dot-text:#fff;
  --leader:#2f6fb5; --candidate:#e0a33a; --follower:#d3dbe6; --down:#f6f7f9; --commit:#10241c; --term:#3d4757;
  --wr:#1d6fb8; --ww:#8a4fc0; --rw:#c1272d; --process:#8a5a00; --realtime:#0b6b4f; --other:#586272; }
@media (prefers-color-scheme: dark) { :root {
  --page:#12161c; --card:#1a2029; --line:#303947; --soft:#222a35; --text:#e6eaf0; --dim:#a3aebd; --link:#7db8f5;
  --yes:#7fdca3; --yes-back:#143524; --no:#ff9d99; --no-back:#461b1e; --maybe:#f5c766; --maybe-back:#3e2f10;
  --red:#ff5f5c; --ok:#1f4a70; --ok-edge:#5fa4dc; --ok-dot:#6fb3ea; --fail:#38414e; --fail-edge:#8995a6;
  --fail-dot:#98a4b5; --info:#5b4413; --info-edge:#d9a43a; --info-dot:#e0ad45; --bar-text:#eef2f7;
  --shade:#a58cf02b; --fault:#9d83e6; --order:#55d3a6; --dot:#55d3a6; --dot-text:#08241a;
  --leader:#3f86d1; --candidate:#c98a2a; --follower:#323c4a; --down:#12161c; --commit:#e9fff6; --term:#c3ccd8;
  --wr:#6cb4f2; --ww:#c79bf0; --rw:#ff7a76; --process:#e8b353; --realtime:#55d3a6; --other:#a3aebd; } }
* { box-sizing:border-box }
html { scroll-behavior:smooth; scroll-padding-top:16px }
body { margin:0; background:var(--page); color:var(--text);
  font:15px/1.55 system-ui, -apple-system, "Segoe UI", Roboto,
  "Helvetica Neue", "DejaVu Sans", Arial, sans-serif; overflow-wrap:anywhere }
main { max-width:1200px; margin:0 auto; padding:28px 20px 64px }
h1 { font-size:26px; line-height:1.25; margin:0 0 4px; letter-spacing:-.01em }
h2 { font-size:19px; line-height:1.3; margin:0 0 10px; letter-spacing:-.005em }
h3 { font-size:15.5px; margin:0 0 6px }
p { margin:0 0 10px }
a { color:var(--link) }
code, pre, svg text, td.num { font-family:ui-monospace, "SF Mono", SFMono-Regular, Menlo, Consolas,
  "DejaVu Sans Mono",
  "Liberation Mono", monospace }
code, pre { font-size:13px }
section { background:var(--card); border:1px solid var(--line); border-radius:10px; padding:18px 20px; margin:18px 0;
  min-width:0 }
header.top { border-left:6px solid var(--line); padding-left:16px; margin-bottom:18px }
header.yes { border-color:var(--yes) } header.no { border-color:var(--red) }
header.maybe { border-color:var(--maybe) }
header .verdict { font-size:17px; margin:4px 0 0 }
header.yes .verdict { color:var(--yes) } header.no .verdict { color:var(--no) }
header.maybe .verdict { color:var(--maybe) }
nav { display:flex; flex-wrap:wrap; gap:4px 18px; margin:12px 0 0; font-size:14px }
.note { color:var(--dim); font-size:13.5px }
dl { display:grid; grid-template-columns:max-content 1fr; gap:3px 18px; margin:0 }
dt { color:var(--dim) } dd { margin:0 }
table { border-collapse:collapse; width:100% }
th, td { text-align:left; vertical-align:top; padding:8px 14px 8px 0; border-top:1px solid var(--line) }
thead th { border-top:0; color:var(--dim); font-weight:500; font-size:13px; padding-top:0 }
tbody th { font-weight:600 }
.pill { display:inline-block; white-space:nowrap; border-radius:99px; padding:1px 10px; font-size:13px;
  font-weight:600 }
.pill.yes { background:var(--yes-back); color:var(--yes) } .pill.no { background:var(--no-back); color:var(--no) }
.pill.maybe { background:var(--maybe-back); color:var(--maybe) }
.counts { color:var(--dim); font-size:13px; font-variant-numeric:tabular-nums }
.counts span { white-space:nowrap; margin-right:10px } .counts b { color:var(--text); font-weight:600 }
.verdicts td:nth-child(3) { min-width:320px } .verdicts th { min-width:130px; overflow-wrap:normal }
.verdicts td p { margin:0 }
.scroll { overflow-x:auto; max-width:100% }
.lanes:focus-visible, button:focus-visible, a:focus-visible, summary:focus-visible
  { outline:2px solid var(--link); outline-offset:2px }
pre { background:var(--soft); border-radius:6px; padding:10px 12px; margin:0 0 8px; white-space:pre-wrap;
  max-height:420px;
  overflow:auto }
details { margin-top:10px } summary { cursor:pointer; color:var(--dim); font-size:13.5px }
.anomaly { border-top:1px solid var(--line); padding:16px 0 4px }
.anomaly:first-of-type { border-top:0; padding-top:4px }
.anomaly h3 .name { color:var(--no) } .anomaly > p.text { max-width:88ch }
.missing li { margin:3px 0 } ul.missing { margin:0; padding-left:20px }
.ops td, .ops th { padding:4px 14px 4px 0; font-size:13px }
.ops td { font-family:ui-monospace, Menlo, Consolas, monospace }
.lanes { display:flex; border:1px solid var(--line); border-radius:8px; overflow:auto; max-height:620px;
  margin:8px 0 }
.lanes svg { flex:none; display:block } .lanes svg:last-child { min-width:calc(100% - 107px) }
.lanes .names { position:sticky; left:0; z-index:1; padding-left:10px; border-right:1px solid var(--line);
  background:var(--card) }
.lanes .names text { fill:var(--dim); font-size:11.5px }
svg text { font-size:11px; fill:var(--text) }
svg .lane { fill:var(--soft); opacity:.6 } svg .grid { stroke:var(--line); stroke-width:1 }
svg .tick { fill:var(--dim) }
svg .shade { fill:var(--shade) }
.op rect { stroke-width:1 } .op text { fill:var(--bar-text); pointer-events:none; font-size:10.5px }
.op.ok rect { fill:var(--ok); stroke:var(--ok-edge) } .op.fail rect { fill:var(--fail); stroke:var(--fail-edge) }
.op.info rect { fill:var(--info); stroke:var(--info-edge); stroke-dasharray:4 3 }
.op:hover rect { stroke-width:2 } .op.accused rect { stroke:var(--red); stroke-width:2.5 }
.op .tail { stroke:var(--info-edge); stroke-width:3; stroke-dasharray:2 5 }
svg .mark { fill:var(--red) }
.order { fill:none; stroke:var(--order); stroke-width:2; stroke-linejoin:round; pointer-events:none }
.dot circle { fill:var(--dot); stroke:var(--card); stroke-width:1 }
.dot text { fill:var(--dot-text); text-anchor:middle; font-size:8.5px; font-weight:700; pointer-events:none }
.dot.small text { font-size:7px }
.no { stroke:var(--red); stroke-width:2; stroke-dasharray:5 4 }
.cross { stroke:var(--red); stroke-width:3; fill:none }
.hidden { display:none }
.legend { display:flex; flex-wrap:wrap; gap:4px 18px; margin:6px 0 0; font-size:13px; color:var(--dim) }
.key { display:inline-flex; align-items:center; gap:7px }
.swatch { width:16px; height:11px; border-radius:3px; border:1px solid var(--line); flex:none }
.swatch.ok { background:var(--ok); border-color:var(--ok-edge) }
.swatch.fail { background:var(--fail); border-color:var(--fail-edge) }
.swatch.info { background:var(--info); border:1px dashed var(--info-edge) }
.swatch.accused { border:2px solid var(--red) }
.swatch.stuck { border:2px solid var(--red); background:var(--no-back) }
.swatch.dots { background:var(--dot); border-radius:9px; width:11px }
.swatch.shade { background:var(--fault); opacity:.45 }
.swatch.leader { background:var(--leader) } .swatch.candidate { background:var(--candidate) }
.swatch.follower { background:var(--follower) } .swatch.down { background:var(--down); border-style:dashed }
.swatch.commit { height:0; border:0; border-top:2px solid var(--commit) }
.buttons { display:flex; flex-wrap:wrap; gap:8px; margin:8px 0 }
button { font:inherit; font-size:13.5px; color:var(--text); background:var(--soft); border:1px solid var(--line);
  border-radius:6px; padding:4px 12px; cursor:pointer }
button[aria-pressed=true] { border-color:var(--link); color:var(--link); font-weight:600 }
.strip { display:block; width:100%; height:auto } .strip .title, .strip .row { fill:var(--dim); font-size:11.5px }
.strips { position:relative } .strips .hair { position:absolute; top:0; bottom:0; width:1px; background:var(--dim);
  pointer-events:none; display:none }
.dots { fill:none; stroke-width:4; stroke-linecap:round } .dots.ok { stroke:var(--ok-dot); opacity:.75 }
.dots.fail { stroke:var(--fail-dot) } .dots.info { stroke:var(--info-dot) }
.fill.ok { fill:var(--ok-dot) } .fill.fail { fill:var(--fail-dot) } .fill.info { fill:var(--info-dot) }
.fault { fill:var(--fault); opacity:.85 } .fault:hover { opacity:1 }
.leads rect { fill:var(--leader) } .leads text { fill:#fff } .tone1 rect { fill:#7a4bb0 } .tone2 rect { fill:#1b7a63 }
.tone3 rect { fill:#8d5b08 } .tone4 rect { fill:#a8406f } .tone5 rect { fill:#4c5b70 }
.role.leader { fill:var(--leader) } .role.candidate { fill:var(--candidate) } .role.follower { fill:var(--follower) }
.role.down { fill:var(--down); stroke:var(--line); stroke-dasharray:3 3 }
svg path.commit { fill:none; stroke:var(--commit); stroke-width:1.8; stroke-linejoin:round; pointer-events:none }
svg path.halo { stroke:var(--card); stroke-width:4.5; opacity:.75 } svg line.term { stroke:var(--term) }
svg text.term { pointer-events:none; font-size:10px; font-weight:600; paint-order:stroke; stroke:var(--card);
  stroke-width:3px }
.graph { overflow-x:auto; margin:8px 0 } svg.cycle { display:block; width:100%; min-width:760px; height:auto }
.txn rect { fill:var(--soft); stroke:var(--line); stroke-width:1.5 } .txn text { font-size:12.5px }
.txn .who { font-weight:700; font-size:14px } .txn .about { fill:var(--dim); font-size:11.5px }
.link { fill:none; stroke-width:2.2 } .tie rect { fill:var(--card); stroke-width:1.4 }
.tie text { font-size:12px; font-weight:600 }
.wr { --edge:var(--wr) } .ww { --edge:var(--ww) } .rw { --edge:var(--rw) } .process { --edge:var(--process) }
.realtime { --edge:var(--realtime) } .other { --edge:var(--other) }
.link, .tie rect { stroke:var(--edge) } .head, .tie text { fill:var(--edge) }
.because { padding-left:22px; margin:8px 0 10px } .because li { margin:4px 0 }
.edge { display:inline-block; border:1.4px solid var(--edge); color:var(--edge); border-radius:99px; padding:0 8px;
  font:600 12px/1.5 ui-monospace, Menlo, Consolas, monospace }
.chip { display:inline-block; background:var(--soft); border:1px solid var(--line); border-radius:5px; padding:0 7px;
  margin:2px; font:12.5px/1.6 ui-monospace, Menlo, Consolas, monospace }
.matrix { width:auto; font-size:13px } .matrix th, .matrix td { padding:3px 8px; border:1px solid var(--line) }
.matrix td { text-align:center; min-width:36px; font-variant-numeric:tabular-nums } .matrix thead td { border:0 }
.matrix .up { vertical-align:bottom; padding:6px 4px; border-top:1px solid var(--line) }
.matrix .up span { writing-mode:vertical-rl; transform:rotate(180deg); display:inline-block }
.matrix .zero { background:var(--no-back); color:var(--no); font-weight:700 }
.matrix .some { background:color-mix(in srgb, var(--ok) var(--heat), transparent) }
.heat1 { --heat:22% } .heat2 { --heat:40% } .heat3 { --heat:58% } .heat4 { --heat:78% } .heat5 { --heat:100% }
.runs td, .runs th { font-size:13.5px } .runs th { white-space:nowrap } .runs td:last-child { min-width:220px }
#tip { position:fixed; z-index:9; max-width:460px; background:var(--text); color:var(--page); border-radius:6px;
  padding:7px 10px; font:12.5px/1.45 ui-monospace, Menlo, Consolas, monospace; white-space:pre-wrap;
  pointer-events:none;
  display:none; overflow-wrap:anywhere }
.matrix tbody th { white-space:nowrap }
@media (max-width:900px) { .verdicts td:nth-child(3) { min-width:220px } .verdicts th { min-width:90px } }
@media (max-width:700px) { dl { grid-template-columns:1fr } dt { margin-top:6px }
.verdicts td:nth-child(3) { min-width:0 } }
@media print { body { background:#fff } section { break-inside:avoid } .buttons { display:none } }
"""

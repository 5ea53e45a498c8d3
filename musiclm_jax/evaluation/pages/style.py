"""The style of `musiclm report`: light, dark, on a phone, on paper."""

CSS = '''
:root { color-scheme: light dark; --paper: #fff; --ink: #1b1d21;
  --soft: #555b66; --rule: #d8dbe0; --shade: #f4f5f7; --accent: #0a5c9e;
  --good: #0b6b3a; --bad: #a6341b;
  --line0: #0a5c9e; --line1: #b8430f; --line2: #0b7a52; --line3: #8a3a8f;
  --line4: #7a6200; --line5: #4a4f59; }
@media (prefers-color-scheme: dark) { :root { --paper: #14161a; --ink: #e8eaed;
  --soft: #a9afba; --rule: #33383f; --shade: #1d2026; --accent: #7cbcf4;
  --good: #6fd39c; --bad: #f59a80;
  --line0: #7cbcf4; --line1: #f5a06a; --line2: #63d2a3; --line3: #dba0e0;
  --line4: #dcc660; --line5: #b4bac5; } }
* { box-sizing: border-box; }
body { font: 16px/1.5 system-ui, sans-serif; color: var(--ink);
  background: var(--paper); max-width: 72rem; margin: 0 auto;
  padding: 1.5rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.7rem; line-height: 1.25; margin: 0 0 .3rem; }
h2 { font-size: 1.3rem; margin: 3rem 0 .4rem; padding-top: .8rem;
  border-top: 2px solid var(--rule); }
h3 { font-size: 1.05rem; margin: 1.6rem 0 .3rem; }
p { margin: .4rem 0; } a { color: var(--accent); }
code { font-family: ui-monospace, monospace; font-size: .88em; }
.note, figcaption small, td small, th small { color: var(--soft);
  font-size: .85rem; font-weight: normal; }
.verdict { font-weight: 600; }
.first, .warning { background: var(--shade); padding: .7rem 1rem;
  border-left: 4px solid var(--accent); margin: 1rem 0; }
.warning { border-color: var(--bad); }
.first ul, .warning ul { margin: .2rem 0; padding-left: 1.2rem; }
.wide { overflow-x: auto; margin: .6rem 0; }
table { border-collapse: collapse; font-size: .93rem; }
th, td { padding: .3rem .8rem .3rem 0; border-bottom: 1px solid var(--rule);
  text-align: left; vertical-align: top; overflow-wrap: normal; }
thead th { border-bottom: 2px solid var(--rule); vertical-align: bottom; }
th { font-weight: 600; }
td.number { font-variant-numeric: tabular-nums; white-space: nowrap; }
td.long { min-width: 14rem; color: var(--soft); }
td small, th small { display: block; }
th small { white-space: nowrap; } thead td { border-bottom: 2px solid var(--rule); }
th.group { padding-top: .9rem; }
.range { display: block; margin-top: .15rem; }
.range line { stroke: var(--line0); stroke-width: 2; }
.range line.rail { stroke: var(--rule); stroke-width: 1; }
.range circle { fill: var(--line0); }
.better { color: var(--good); font-weight: 600; }
.worse { color: var(--bad); font-weight: 600; }
.flat { list-style: none; margin: .4rem 0; padding: 0; font-size: .88rem;
  columns: 22rem; column-gap: 2rem; }
.flat li { display: flex; flex-wrap: wrap; justify-content: space-between; gap: 0 1rem;
  break-inside: avoid; border-bottom: 1px solid var(--rule);
  padding: .12rem 0; }
.flat span { overflow-wrap: break-word; max-width: 100%; }
.flat b { font-weight: 500; margin-left: auto;
  font-variant-numeric: tabular-nums; }
.charts { display: grid; gap: 1.2rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 24rem), 1fr)); }
figure { margin: .6rem 0; max-width: 36rem; }
figcaption { font-weight: 600; }
.chart { width: 100%; height: auto; display: block; }
.chart text { font: 12px system-ui, sans-serif; fill: var(--soft); }
.grid { stroke: var(--rule); stroke-width: 1; }
.axis { stroke: var(--soft); stroke-width: 1; }
.line { fill: none; stroke: var(--line); stroke-width: 1.8;
  stroke-linejoin: round; }
.band { fill: var(--line); opacity: .16; } .marker { fill: var(--line); }
.legend { display: flex; flex-wrap: wrap; gap: .1rem 1.2rem;
  font-size: .88rem; }
.key { min-width: 0; } .key svg { vertical-align: middle; }
.clip { border-top: 1px solid var(--rule); padding: .8rem 0; }
.forms .clip { border: 0; padding: 0; } pre { font-size: .82rem; margin: 0; }
.forms { display: grid; gap: .8rem 1.2rem;
  grid-template-columns: repeat(auto-fill, minmax(min(100%, 19rem), 1fr)); }
.forms img { width: 100%; height: auto; display: block; margin-bottom: 4px;
  image-rendering: pixelated; }
audio { width: 100%; height: 2.4rem; }
details { margin: .5rem 0; } summary { cursor: pointer; color: var(--accent); }
dl { margin: .4rem 0; display: grid; gap: .1rem 1rem;
  grid-template-columns: fit-content(16rem) minmax(0, 1fr); font-size: .92rem; }
dt { color: var(--soft); } dd { margin: 0; } dd > dl { margin: 0; }
@media (max-width: 34rem) { dl { grid-template-columns: minmax(0, 1fr); }
  dt { margin-top: .3rem; } }
@media print { :root { --paper: #fff; --ink: #000; --soft: #444;
    --rule: #bbb; --shade: #f4f4f4; --accent: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  audio, summary { display: none; } .wide { overflow: visible; }
  h2, h3 { break-after: avoid; } figure, .clip, tr { break-inside: avoid; } }
'''

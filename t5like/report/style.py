"""The style sheet of the page: light and dark by what the reader's system asks for, wide and narrow by room."""

from t5like.report.markup import Markup

STYLE = Markup("""
:root {
  color-scheme: light dark;
  --page: #f6f7f9; --card: #ffffff; --text: #1b1f24; --muted: #58616c; --line: #dfe3e8; --grid: #eceff2;
  --first: #2160c4; --second: #c2410c; --reference: #6a7380; --good: #146c43; --bad: #b3261e; --code: #f0f2f5;
  --good-back: #e5f4ec; --bad-back: #fcebea; --note-back: #fff6dc; --note-line: #e3c766;
}
@media (prefers-color-scheme: dark) {
  :root {
    --page: #111418; --card: #191d23; --text: #e5e8ec; --muted: #a3acb8; --line: #303741; --grid: #262c34;
    --first: #78aeff; --second: #ff9e66; --reference: #98a2af; --good: #67d39a; --bad: #ff8f86; --code: #242a32;
    --good-back: #16301f; --bad-back: #3a1d1b; --note-back: #2e2813; --note-line: #6d5d22;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--page); color: var(--text); font: 16px/1.5 system-ui, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2rem 1.25rem 3rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.25rem); line-height: 1.15; margin: .1rem 0 .75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.45rem; margin: 2.75rem 0 .75rem; padding-top: 1.25rem; border-top: 2px solid var(--line); }
h3 { font-size: 1.1rem; margin: 2rem 0 .75rem; }
h4 { font-size: .95rem; margin: 0; }
p { margin: 0 0 .75rem; }
small, .muted { color: var(--muted); font-size: .875rem; font-weight: 400; }
.kind { color: var(--first); font-weight: 600; margin: 0; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; list-style: none; padding: 0; margin: 0 0 1.5rem; }
.chips li { background: var(--code); border-radius: 1rem; padding: .1rem .75rem; font-size: .875rem; }
.chips .field { color: var(--muted); }
.card, .tile, .chart, .sample { background: var(--card); border: 1px solid var(--line); border-radius: .6rem; }
.tiles { display: grid; grid-template-columns: repeat(auto-fit, minmax(10.5rem, 1fr)); gap: .75rem; margin: 0; }
.tile { padding: .8rem 1rem; display: flex; flex-direction: column; }
.tile dt { color: var(--muted); font-size: .875rem; line-height: 1.3; }
.tile dd { margin: 0; }
.tile .figure { font-size: 1.65rem; font-weight: 650; line-height: 1.35; font-variant-numeric: tabular-nums; }
.tile .beside { font-size: .875rem; color: var(--muted); line-height: 1.35; }
.good { color: var(--good); } .bad { color: var(--bad); }
.note { margin: 1rem 0 0; background: var(--note-back); border: 1px solid var(--note-line); border-radius: .6rem; padding: .7rem 1rem; }
.note ul { margin: .25rem 0 0; padding-left: 1.25rem; overflow-wrap: anywhere; }
.charts { display: flex; flex-wrap: wrap; gap: .75rem; }
.charts > * { flex: 1 1 min(100%, 18rem); }
.chart { display: flex; flex-direction: column; margin: 0; padding: .9rem 1rem .75rem; min-width: 0; }
.charts > .wide { flex-basis: 100%; }
.legend { display: flex; flex-wrap: wrap; gap: 0 1.1rem; font-size: .875rem; color: var(--muted); margin: 0 0 .75rem; }
.key::before { content: ""; display: inline-block; width: 1.1em; margin-right: .4em; vertical-align: .25em;
  border-top: 3px solid currentColor; }
.key::before { border-color: var(--first); }
.key.second::before { border-color: var(--second); }
.key.reference::before { border-top: 2px dashed var(--reference); }
.plot { margin-top: auto; padding: .4rem 1rem 1.6rem 2.9rem; }
.plot svg { display: block; overflow: visible; }
.plot text { fill: var(--muted); font-size: 12px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--grid); }
line.reference { stroke: var(--reference); stroke-width: 1.5; stroke-dasharray: 5 4; }
.curve, .dots { fill: none; vector-effect: non-scaling-stroke; stroke-linejoin: round; stroke-linecap: round; }
.curve { stroke-width: 1.5; } .curve.second { stroke-width: 2; } .dots { stroke-width: 5; }
.curve.first, .dots.first { stroke: var(--first); } .curve.second, .dots.second { stroke: var(--second); }
.band rect { fill: transparent; } .band line { stroke: var(--muted); visibility: hidden; }
.band:hover line { visibility: visible; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; width: 100%; font-size: .95rem; }
th, td { text-align: left; padding: .5rem .9rem; border-bottom: 1px solid var(--line); vertical-align: top; }
tbody tr:last-child > * { border-bottom: 0; }
thead th { color: var(--muted); font-weight: 600; font-size: .875rem; }
tbody th { font-weight: 600; }
.number { text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }
.times .bars { width: 45%; vertical-align: middle; }
.bar { display: block; width: 100%; height: .7rem; } .bar rect { fill: var(--first); }
.verdict { font-weight: 600; white-space: nowrap; }
.samples { display: grid; gap: .75rem; }
.sample { padding: .8rem 1rem; border-left: 4px solid var(--line); min-width: 0; }
.sample.right { border-left-color: var(--good); } .sample.wrong { border-left-color: var(--bad); }
.sample header { display: flex; justify-content: space-between; gap: 1rem; margin-bottom: .4rem; }
.mark { border-radius: 1rem; padding: 0 .7rem; font-size: .875rem; font-weight: 600; white-space: nowrap; }
.mark.good { background: var(--good-back); } .mark.bad { background: var(--bad-back); }
.sample dl { display: grid; grid-template-columns: 6rem minmax(0, 1fr); gap: .3rem .75rem; margin: 0; }
.sample dt { color: var(--muted); font-size: .875rem; }
.sample dd { margin: 0; white-space: pre-wrap; overflow-wrap: anywhere; max-height: 16rem; overflow-y: auto; }
.sentinel { background: var(--code); color: var(--muted); border-radius: .25rem; padding: 0 .25rem; font-size: .85em; }
details > summary { cursor: pointer; }
details.more { margin-top: .75rem; } details.more > summary { color: var(--muted); padding: .25rem 0; }
details.more > .charts, details.more > .samples { margin-top: .5rem; }
.card { padding: .8rem 1rem; }
.tree, .tree ul { list-style: none; margin: 0; padding: 0; font-size: .925rem; }
.tree ul { padding-left: .6rem; margin-left: .3rem; border-left: 1px solid var(--line); }
.tree li { padding: .1rem 0 .1rem 1.1rem; overflow-wrap: anywhere; }
.tree li.branch { padding-left: 0; }
.tree .field::after { content: " "; white-space: pre; } .tree .leaf .field { color: var(--muted); }
.tree code { font: .92em ui-monospace, monospace; }
.tree .class { color: var(--first); font-weight: 600; }
.facts { display: grid; grid-template-columns: minmax(7rem, max-content) minmax(0, 1fr); gap: .2rem 1.5rem; margin: 0; }
.facts dt { color: var(--muted); } .facts dd { margin: 0; overflow-wrap: anywhere; }
footer { margin-top: 3rem; color: var(--muted); font-size: .875rem; }
@media (max-width: 34rem) {
  main { padding: 1.25rem .8rem 2rem; }
  .tiles { grid-template-columns: 1fr 1fr; }
  .tile { padding: .6rem .75rem; } .tile .figure { font-size: 1.35rem; }
  .sample dl { grid-template-columns: 1fr; gap: 0; } .sample dd { margin-bottom: .4rem; }
  table { font-size: .875rem; } th, td { padding: .45rem .3rem; } .verdict { white-space: normal; }
  td small, th small { display: block; font-size: .8rem; }
}
@media print { body { background: none; } .chart, .tile, .sample { break-inside: avoid; } }
""")

"""How the report looks: light and dark, on a phone and on paper."""

STYLE = """
:root { --paper: #fdfdfc; --ink: #1d1f24; --soft: #62666f; --rule: #dcdde0; --tint: #f3f3f1; --warn: #9a4a00;
  --c0: #2f6db3; --c1: #d1762b; --c2: #3a8f5c; --c3: #a8478f; --c4: #b8323e; --c5: #7a7566;
  color-scheme: light; }
@media screen and (prefers-color-scheme: dark) {
  :root { --paper: #16181c; --ink: #e6e6e3; --soft: #9a9ea8; --rule: #34373d; --tint: #1f2227;
    --warn: #f0a75e; --c0: #6ea8ea; --c1: #f0a15c; --c2: #6cc492; --c3: #dc8ac6; --c4: #ff7f86; --c5: #b5af9d;
    color-scheme: dark; } }
* { box-sizing: border-box; }
body { margin: 0; background: var(--paper); color: var(--ink); -webkit-text-size-adjust: 100%;
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", Arial, sans-serif; }
main { max-width: 68rem; margin: 0 auto; padding: 2.5rem 1.25rem 4rem; }
h1 { font-size: clamp(1.6rem, 5vw, 2.3rem); line-height: 1.15; letter-spacing: -.015em; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; margin: 0 0 .5rem; padding-top: 1.1rem; border-top: 1px solid var(--rule); }
h3 { font-size: 1rem; margin: 1.5rem 0 .4rem; }
h1, h2, h3, figcaption { text-wrap: balance; }
section { margin-top: 2.6rem; }
.summary { max-width: 44rem; font-size: 1.06rem; margin: 0; }
.note, figcaption, small { color: var(--soft); font-size: .875rem; }
.note { max-width: 44rem; margin: 0 0 .9rem; }
.notice { margin: .8rem 0 0; }
.notice a { color: var(--warn); font-weight: 600; }
.figures { display: flex; flex-wrap: wrap; gap: 1.1rem 2.6rem; margin: 1.7rem 0 0; }
.figures div { display: flex; flex-direction: column-reverse; }
.figures dt { color: var(--soft); font-size: .875rem; }
.figures dd { margin: 0; font-size: 1.7rem; line-height: 1.2; font-weight: 600; letter-spacing: -.01em;
  font-variant-numeric: tabular-nums; }
figure { margin: 0 0 1.7rem; }
figcaption { margin-bottom: .45rem; }
.scroll { overflow-x: auto; }
section { container-type: inline-size; }
.strip { --label: 5.4rem; --gap: 4px; display: grid; width: max-content; gap: var(--gap); align-items: center;
  grid-template-columns: var(--label) repeat(var(--count), auto);
  --room: calc(100cqw - var(--label) - var(--gap) * var(--count));
  --height: clamp(104px, calc(var(--room) / var(--aspects)), 152px); }
.name { font-size: .7rem; color: var(--soft); text-align: center; font-variant-numeric: tabular-nums; }
.row, .corner { position: sticky; left: 0; z-index: 1; background: var(--paper); align-self: stretch;
  display: flex; align-items: center; font-size: .8125rem; color: var(--soft); }
.pic { position: relative; display: block; height: var(--height); width: calc(var(--height) * var(--aspect));
  justify-self: center; box-shadow: 0 0 0 1px var(--rule); }
.pic img, .pic svg { position: absolute; inset: 0; width: 100%; height: 100%; }
.pic svg { overflow: visible; }
.tiny img, .heat { image-rendering: pixelated; }
.pic path { fill: none; vector-effect: non-scaling-stroke; }
.under { stroke: #000; stroke-width: 3px; stroke-opacity: .55; }
.over { stroke: #ffe14d; stroke-width: 1.5px; }
.gallery { display: flex; flex-wrap: wrap; gap: 0 2.4rem; }
.gallery figure { max-width: 100%; }
.attention { --height: 200px; display: flex; flex-wrap: wrap; gap: .5rem; }
.attention small { display: block; text-align: center; font-size: .75rem; line-height: 1.35;
  font-variant-numeric: tabular-nums; }
.panels { display: grid; gap: 1rem 2rem;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 19rem), 1fr)); }
.chart { max-width: 30rem; margin: 1rem 0; break-inside: avoid; }
.chart svg { display: block; width: 100%; height: auto; }
.chart text { fill: var(--soft); font-size: 11px; font-variant-numeric: tabular-nums; }
.grid { stroke: var(--rule); }
.line path { fill: none; stroke: currentColor; stroke-width: 1.75; stroke-linejoin: round; }
.line circle { fill: currentColor; }
.legend { display: flex; flex-wrap: wrap; gap: .2rem 1.1rem; padding-left: .5rem; }
.key { font-size: .8125rem; }
.key::before { content: ""; display: inline-block; width: 1em; border-top: 3px solid; margin-right: .4em;
  vertical-align: .25em; }
.c0 { color: var(--c0); } .c1 { color: var(--c1); } .c2 { color: var(--c2); }
.c3 { color: var(--c3); } .c4 { color: var(--c4); } .c5 { color: var(--c5); }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .9375rem; }
th, td { padding: .32rem .95rem .32rem 0; text-align: right; font-weight: 400; white-space: nowrap; }
th:first-child { text-align: left; }
thead th { color: var(--soft); font-size: .875rem; border-bottom: 1px solid var(--rule); }
td b { font-weight: 700; }
.scores { display: flex; flex-wrap: wrap; gap: 0 4rem; align-items: flex-start; }
.scores > div { max-width: 100%; }
.scores .chart { flex: 1 1 20rem; margin-top: .4rem; }
.scroll + .note { margin: 1.1rem 0 .3rem; }
.warnings { padding-left: 1.1rem; margin: 0; }
.warnings li { margin: .25rem 0; }
details { margin: .4rem 0; }
summary { cursor: pointer; font-weight: 600; }
pre { background: var(--tint); padding: .8rem 1rem; border-radius: 6px; overflow-x: auto;
  white-space: pre-wrap; overflow-wrap: anywhere;
  font: .8125rem/1.5 ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; }
@media (max-width: 40rem) {
  .strip { --label: 4.6rem; } .row { font-size: .72rem; } .figures { gap: .9rem 1.8rem; }
  .figures dd { font-size: 1.35rem; } .attention { --height: 160px; } }
@media print {
  :root { --paper: #fff; }
  body { font-size: 10.5pt; } main { max-width: none; padding: 0; } .scroll { overflow: visible; }
  .strip { --height: min(92px, calc(var(--room) / var(--aspects))); }
  figure, table, li { break-inside: avoid; }
  h2, h3, .note, figcaption { break-after: avoid; } .row, .corner { position: static; }
  * { -webkit-print-color-adjust: exact; print-color-adjust: exact; }
  details::details-content { content-visibility: visible; block-size: auto; } }
"""

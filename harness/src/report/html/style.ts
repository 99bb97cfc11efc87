/** The style sheet of the HTML report. Light and dark by what the reader prefers; prints; narrow screens scroll tables only. */
export const css: string = `
:root {
  color-scheme: light dark;
  --bg: #ffffff; --panel: #f6f7f9; --line: #d5d9e0; --text: #1c2230; --soft: #596275;
  --good: #126b34; --good-bg: #e0f3e6; --bad: #a8201a; --bad-bg: #fde6e4; --warn: #8a5300; --warn-bg: #fdf0d5;
  --none: #596275; --link: #1558b0; --way: #9aa4b5;
}
@media (prefers-color-scheme: dark) {
  :root {
    --bg: #14171d; --panel: #1c212a; --line: #353c49; --text: #e3e7ee; --soft: #9ba5b6;
    --good: #7fd79c; --good-bg: #17351f; --bad: #ff9c94; --bad-bg: #431b19; --warn: #f3c26b; --warn-bg: #3b2b0d;
    --none: #9ba5b6; --link: #82b4ff; --way: #6b7587;
  }
}
* { box-sizing: border-box; }
body { margin: 0; background: var(--bg); color: var(--text); font: 15px/1.5 system-ui, sans-serif; }
main, header, footer { max-width: 90rem; margin: 0 auto; padding: 0 1.25rem; }
h1 { font-size: 1.6rem; margin: 1.5rem 0 .25rem; }
h2 { font-size: 1.2rem; margin: 2.25rem 0 .5rem; border-bottom: 1px solid var(--line); padding-bottom: .25rem; }
h3 { font-size: 1rem; margin: 1rem 0 .25rem; }
p { margin: .4rem 0; max-width: 75ch; }
a { color: var(--link); }
code, pre, .mono { font: 13px/1.45 ui-monospace, "DejaVu Sans Mono", monospace; }
nav ul { display: flex; flex-wrap: wrap; gap: .25rem 1rem; list-style: none; padding: 0; margin: .5rem 0; }
.soft { color: var(--soft); }
.skip-link { position: absolute; left: -99rem; }
.skip-link:focus { left: 1rem; top: 1rem; background: var(--bg); padding: .5rem; }
.chips { display: flex; flex-wrap: wrap; gap: .4rem; padding: 0; margin: .6rem 0; list-style: none; }
.chip, .yes, .no, .partly, .documented { border-radius: .35rem; padding: .1rem .5rem; white-space: nowrap; }
.pass, .yes { color: var(--good); background: var(--good-bg); }
.fail, .xpass, .no { color: var(--bad); background: var(--bad-bg); }
.xfail, .inconclusive, .partly { color: var(--warn); background: var(--warn-bg); }
.skip, .documented { color: var(--none); background: var(--panel); }
.banner { border: 2px solid var(--warn); border-radius: .4rem; padding: .5rem .8rem; margin: .8rem 0; }
.finding { border-left: 4px solid var(--bad); padding: .1rem .8rem; margin: .8rem 0; background: var(--panel); }
.scroll { overflow-x: auto; width: fit-content; max-width: 100%; border: 1px solid var(--line); border-radius: .4rem; }
.scroll.tall { max-height: 85vh; overflow: auto; }
.tall thead th { position: sticky; top: 0; z-index: 1; }
.tall thead th:first-child { left: 0; z-index: 2; }
.scroll:focus-visible { outline: 2px solid var(--link); }
table { border-collapse: separate; border-spacing: 0; }
th, td { padding: .3rem .55rem; text-align: left; vertical-align: top; border-top: 1px solid var(--line); }
tr:first-child > * { border-top: 0; }
thead th { background: var(--panel); white-space: nowrap; font-weight: 600; }
tbody th { white-space: nowrap; font-weight: 500; position: sticky; left: 0; background: var(--bg); }
table.narrow tbody th { white-space: normal; min-width: 9rem; }
.answer { border-radius: .35rem; padding: .1rem .5rem; white-space: nowrap; font-weight: 600; }
.own { color: var(--link); background: var(--panel); }
table.wide tbody th { white-space: normal; min-width: 13rem; max-width: 16rem; overflow-wrap: anywhere; }
table.wide td { min-width: 9.5rem; }
td .cell { display: block; margin: .1rem 0; padding: .1rem .4rem; border-radius: .3rem; text-decoration: none; font-size: 13px; white-space: normal; }
td .cell:hover, td .cell:focus-visible { text-decoration: underline; }
.cell b { font-weight: 600; }
button { font: inherit; color: inherit; cursor: pointer; background: none; border: 1px solid transparent; border-radius: .35rem; padding: .1rem .5rem; }
button.yes, button.pass { background: var(--good-bg); color: var(--good); }
button.no { background: var(--bad-bg); color: var(--bad); }
button.partly { background: var(--warn-bg); color: var(--warn); }
button:hover, button:focus-visible { border-color: currentColor; }
[popover] { background: var(--bg); color: var(--text); border: 1px solid var(--line); border-radius: .5rem; padding: 1rem 1.25rem; max-width: min(46rem, 92vw); max-height: 80vh; overflow: auto; box-shadow: 0 .5rem 2rem rgb(0 0 0 / .35); }
[popover]::backdrop { background: rgb(0 0 0 / .25); }
[popover] ul { padding-left: 1.1rem; margin: .5rem 0; }
details.case { border: 1px solid var(--line); border-radius: .4rem; margin: .35rem 0; background: var(--bg); }
details.case > summary { padding: .4rem .7rem; cursor: pointer; display: flex; flex-wrap: wrap; gap: .2rem .7rem; align-items: baseline; }
details.case[open] > summary { background: var(--panel); border-bottom: 1px solid var(--line); }
details.case > summary .name { font-weight: 600; overflow-wrap: anywhere; }
.case-body { padding: .3rem .9rem .9rem; scroll-margin-top: 4rem; }
.columns { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(22rem, 100%), 1fr)); gap: 0 2rem; }
.columns ul { padding-left: 1.1rem; margin: .25rem 0; overflow-wrap: anywhere; }
pre { background: var(--panel); border: 1px solid var(--line); border-radius: .35rem; padding: .5rem .7rem; overflow-x: auto; margin: .3rem 0; }
.command { display: flex; align-items: center; gap: .5rem; flex-wrap: wrap; }
.command code { background: var(--panel); border: 1px solid var(--line); border-radius: .35rem; padding: .2rem .5rem; overflow-wrap: anywhere; }
.command button { border-color: var(--line); }
.filters { display: flex; flex-wrap: wrap; gap: .6rem 1.2rem; align-items: center; margin: .6rem 0; }
.filters input[type=search] { font: inherit; padding: .25rem .5rem; min-width: min(20rem, 80vw); background: var(--bg); color: var(--text); border: 1px solid var(--line); border-radius: .35rem; }
.plot { color: var(--text); overflow-x: auto; }
.plot svg { max-width: none; }
svg.timeline { color: var(--text); display: block; }
.timeline text { font: 12px system-ui, sans-serif; fill: currentColor; }
.timeline text.time { text-anchor: end; fill: var(--soft); font-size: 11px; }
.timeline text.lane { text-anchor: middle; font-weight: 600; font-size: 11px; }
.timeline text.gap { text-anchor: middle; fill: var(--soft); font-style: italic; }
.timeline path.lane { stroke: var(--line); }
.timeline path.hair { stroke: var(--line); stroke-dasharray: 1 4; opacity: .6; }
.timeline .way { fill: none; stroke: var(--way); stroke-width: 1.5; opacity: .7; }
.timeline circle { fill: var(--link); stroke: var(--bg); stroke-width: 1.5; }
.timeline .truncate circle, .timeline .punch circle, .timeline .unmap circle { fill: var(--warn); }
.timeline .exit circle, .timeline .sigbus circle, .timeline .sigsegv circle, .timeline .exception circle { fill: var(--bad); }
.timeline .inject circle, .timeline .remap circle, .timeline .fixup circle { fill: var(--good); }
.timeline .signal circle { fill: var(--soft); }
footer { color: var(--soft); padding-bottom: 2rem; margin-top: 3rem; }
button.by-model, td .cell.model { border: 1px dashed currentColor; background: none; }
.filters select, .filters button { font: inherit; padding: .2rem .4rem; background: var(--bg); color: var(--text); border: 1px solid var(--line); border-radius: .35rem; max-width: 14rem; }
.boxes { display: flex; flex-wrap: wrap; gap: .2rem .8rem; }
[hidden] { display: none !important; }
@media (max-width: 40rem) {
  main, header, footer { padding: 0 .7rem; }
  th, td { padding: .25rem .35rem; font-size: 13px; }
  table.wide tbody th { min-width: 7rem; max-width: 7.5rem; }
  table.narrow tbody th { min-width: 6.5rem; max-width: 7.5rem; overflow-wrap: anywhere; }
  .tall tbody th { white-space: normal; min-width: 6.5rem; max-width: 7.5rem; overflow-wrap: anywhere; }
  td .soft { font-size: 12px; }
}
@media print { .filters, nav, .command button { display: none; } .scroll { overflow: visible; } }
`;

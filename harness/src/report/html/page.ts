/**
 * The report as one HTML file: no network, no font, no image from elsewhere; readable without JavaScript.
 * A content security policy lets only the page's own style sheet and script work, whatever a recorded run contains.
 */
import { createHash } from "node:crypto";
import { type VerdictKind, verdictKinds } from "../../../../language/src/index.ts";
import type { RunInfo } from "../../run/observer.ts";
import { replayCommand } from "../../run/plan.ts";
import { comparedTitle } from "../answers.ts";
import { builtText } from "../built.ts";
import { glyphs } from "../cells.ts";
import { visibleData } from "../encode.ts";
import { endText, findingsOf, findingsTitle } from "../findings.ts";
import { type Markup, markup, trusted } from "../markup.ts";
import type { Report } from "../report.ts";
import { caseTitle, plural } from "../text.ts";
import { caseBlock, caseIds, caseLinks, commandMarkup } from "./cases.ts";
import { guardsMarkup } from "./guards.ts";
import { failureTimes, faultRates, latencies, plotFigure } from "./plots.ts";
import { script } from "./script.ts";
import { css } from "./style.ts";
import { answersMarkup, matrixMarkup, scorecardMarkup, shortText } from "./tables.ts";

const meanings: Readonly<Record<VerdictKind, string>> = {
  pass: "as expected of this kernel: where a hang is expected, seeing it is a pass",
  fail: "something else than expected",
  xfail: "a known deviation of this kernel or backend",
  xpass: "better than expected: a defect or a known deviation is gone",
  skip: "cannot run here, with the reason",
  inconclusive: "proves nothing: a witness is missing, a time-out, not what was asked for, a busy machine",
};

function policy(): string {
  const hash = createHash("sha256").update(script).digest("base64");
  return `default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-${hash}'; base-uri 'none'; form-action 'none'`;
}

type Section = { readonly id: string; readonly title: string; readonly content: Markup | null };

function sectionMarkup({ id, title, content }: Section): Markup {
  return markup`<section aria-labelledby="${id}"><h2 id="${id}">${title}</h2>${content}</section>
`;
}

function chips({ counts }: Report): Markup {
  const items = verdictKinds
    .filter((kind) => counts[kind] > 0)
    .map(
      (kind) =>
        markup`<li class="chip ${kind}"><span aria-hidden="true">${glyphs[kind]} </span>${counts[kind]} ${kind}</li>`,
    );
  return markup`<ul class="chips" aria-label="Verdicts">${items}</ul>`;
}

function headMarkup(report: Report, sections: readonly Section[]): Markup {
  const { runs, gaps, defects, durationMs } = report;
  const machines = runs.map(
    ({ kernel, kvmBackend, startedAt, version }) =>
      markup`<p class="soft">Linux ${kernel}, ${kvmBackend ?? "no KVM"}; daxfault ${version}, ${startedAt}</p>`,
  );
  const warnings = [
    ...gaps.map((gap) => markup`<p>${gap}</p>`),
    ...defects.map((defect) => markup`<p>Defect of daxfault: ${defect}</p>`),
  ];
  return markup`<header><h1>What a guest sees when the host truncates the file under its memory</h1>
<p><b>${endText(report)}</b>, ${plural(report.results.length, "case")} in ${(durationMs / 1000).toFixed(1)} s</p>${chips(report)}${machines}
${warnings.length === 0 ? null : markup`<div class="banner" role="status"><b>This is part of the run only.</b>${warnings}</div>`}
<nav aria-label="Sections"><ul>${sections.map(({ id, title }) => markup`<li><a href="#${id}">${title.replace(/:.*/, "")}</a></li>`)}</ul></nav></header>
`;
}

function findingsMarkup({ results }: Report, ids: ReturnType<typeof caseIds>): Markup {
  const findings = findingsOf(results);
  const attention = results.filter(({ verdict }) => ["fail", "xpass", "inconclusive"].includes(verdict.kind));
  const blocks = findings.map(({ id, text, source, cases }) => {
    const [first] = cases;
    return markup`<div class="finding"><p><b>${id}</b> (${plural(cases.length, "case")}): ${text}</p><p class="soft">${source}</p>
${first === undefined ? null : commandMarkup(replayCommand(first.planned))}<details><summary>${plural(cases.length, "case")}</summary>${caseLinks(cases, ids)}</details></div>`;
  });
  const unexpected =
    attention.length > 0
      ? markup`<h3>Not as expected, or without proof</h3>${caseLinks(attention, ids)}`
      : findings.length === 0
        ? markup`<p>Nothing is unexpected, and every case that ran proves something.</p>`
        : null;
  return markup`${unexpected}${findings.length === 0 ? null : markup`<h3>${findingsTitle(findings)}</h3>`}${blocks}`;
}

async function plotsMarkup({ results, proposals }: Report): Promise<Markup | null> {
  // A single dot is no plot; the case shows its figures.
  if (results.length < 2) return null;
  const order = proposals.map(({ id }) => id);
  const plots = [
    await plotFigure(faultRates(results), order, {
      title: "How fast a hung vCPU faults",
      axis: "page faults a second (log)",
      group: "engine",
    }),
    await plotFigure(latencies(results), order, {
      title: "From the truncation to its first consequence",
      axis: "milliseconds (log)",
      group: "first consequence",
    }),
    await plotFigure(failureTimes(results), order, {
      title: "How long an access was under way until its task was told",
      axis: "milliseconds (log)",
      group: "told by",
    }),
  ].filter((plot) => plot !== null);
  return plots.length === 0 ? null : markup`${plots}`;
}

/** A choice among what the cases have; nothing where they have one. */
function choice(name: string, label: string, values: readonly string[]): Markup {
  const options = [...new Set(values)].map((value) => markup`<option value="${value}">${value}</option>`);
  const unused = options.length < 2 ? markup` hidden` : null;
  return markup`<label${unused}>${label} <select name="${name}"><option value="">all</option>${options}</select></label>`;
}

/** Of the matrix and the list of cases alike. */
function filters({ results, counts }: Report): Markup {
  const boxes = verdictKinds
    .filter((kind) => counts[kind] > 0)
    .map(
      (kind) => markup`<label><input type="checkbox" name="verdict" value="${kind}" checked> ${kind}</label>`,
    );
  const planned = results.map((result) => result.planned);
  const choices = [
    choice(
      "proposal",
      "Proposal",
      planned.map(({ proposal }) => proposal.id),
    ),
    choice(
      "engine",
      "Engine",
      planned.map(({ engine }) => engine),
    ),
    choice(
      "machine",
      "Machine",
      planned.map(({ machine }) => machine),
    ),
    choice(
      "ground",
      "Ran",
      planned.map(({ nature }) => (nature.isReal ? "real" : "model")),
    ),
  ];
  return markup`<form id="filters" class="filters" hidden><label>Find <input type="search" name="text" placeholder="scenario, outcome: looping, SIGBUS .."></label>${choices}<span class="boxes">${boxes}</span><button type="reset">Show all</button><output id="shown"></output></form>`;
}

function attestationTable(info: RunInfo): Markup {
  const rows: (readonly [string, string])[] = [
    ["daxfault", info.version],
    ["started", info.startedAt],
    ["Linux", info.kernel],
    ["KVM backend", info.kvmBackend ?? "none"],
    ["Node", info.node],
    ["page size", `${info.pageSize} bytes`],
    ["files", `${info.runDirectory} on ${info.fileSystem}`],
    [
      "cases",
      `${info.cases}, ${info.jobs} at a time, limit ${info.timeoutMs / 1000} s each, ${info.repeat} run(s) each`,
    ],
    ["beside", `${plural(info.busy, "CPU hog")} (--busy)`],
    ["shard", info.shard === null ? "all" : `${info.shard.index} of ${info.shard.count}`],
    ...info.attestations.flatMap(({ kernel, kvmBackend, vm }): readonly (readonly [string, string])[] =>
      vm === null
        ? []
        : [
            [
              `kernel ${vm.kernel}`,
              `Linux ${kernel} (${[vm.origin, builtText(vm) ?? ""].join(" ").trim()}), ${kvmBackend ?? "no KVM"}, QEMU ${vm.qemu} with ${vm.accelerator}`,
            ],
          ],
    ),
    ...info.attestations
      .filter(({ kvmBackend }) => kvmBackend !== null)
      .map(({ engine, capabilities, vm }): readonly [string, string] => [
        `capabilities (${vm === null ? engine : vm.kernel})`,
        Object.entries(capabilities)
          .map(([name, value]) => `${name.replace("KVM_CAP_", "")}=${value}`)
          .join(" "),
      ]),
  ];
  const body = rows.map(([name, value]) => markup`<tr><th scope="row">${name}</th><td>${value}</td></tr>`);
  return markup`<div class="scroll" tabindex="0" role="region" aria-label="Attestation"><table><tbody>${body}</tbody></table></div>`;
}

function legend(): Markup {
  const items = verdictKinds.map(
    (kind) => markup`<li><span class="chip ${kind}">${glyphs[kind]} ${kind}</span> ${meanings[kind]}</li>`,
  );
  return markup`<ul>${items}</ul>`;
}

export async function htmlPage(recorded: Report): Promise<string> {
  const report = visibleData(recorded);
  const ids = caseIds(report.results);
  const [only, second] = report.results;
  const single = second === undefined ? only : undefined;
  const blocks = report.results.map((result) =>
    caseBlock(result, { id: ids.get(result) ?? "", short: shortText(result), isOpen: result === single }),
  );
  const all: readonly Section[] = [
    { id: "answers", title: comparedTitle, content: answersMarkup(report) },
    { id: "findings", title: "Findings", content: findingsMarkup(report, ids) },
    { id: "scorecard", title: "Scorecard: does the property hold?", content: scorecardMarkup(report, ids) },
    {
      id: "matrix",
      title: "Matrix: what was seen",
      content: markup`${filters(report)}${matrixMarkup(report, ids)}`,
    },
    { id: "plots", title: "Plots", content: await plotsMarkup(report) },
    { id: "guards", title: "Guards: races and price", content: await guardsMarkup(report.guards) },
    { id: "cases", title: "Cases", content: markup`${blocks}` },
    { id: "attestation", title: "Attestation", content: markup`${report.runs.map(attestationTable)}` },
    { id: "legend", title: "How to read it", content: legend() },
  ];
  const sections = all.filter(({ content }) => content !== null);
  const title = single === undefined ? "report" : caseTitle(single);
  const page = markup`<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="${policy()}"><title>daxfault: ${title}</title><style>${trusted(css)}</style></head>
<body><a class="skip-link" href="#main">Skip to the content</a>${headMarkup(report, sections)}<main id="main">
${sections.map(sectionMarkup)}</main><footer><p>Made by daxfault from recorded evidence. No part of this page comes from the network.</p></footer>
<div id="live" role="status" aria-live="polite" class="soft"></div><script>${trusted(script)}</script></body></html>`;
  return `<!doctype html>\n${page.html}\n`;
}

/**
 * The plots: how fast a hung vCPU faults, and how long it takes from a truncation to its first consequence. Drawn by
 * Vega-Lite without a browser; it is an optional package, and without it the figures stand in tables alone.
 */
import type { Access, TraceEvent } from "../../../../language/src/index.ts";
import type { CaseResult } from "../../run/result.ts";
import { type Markup, markup, trusted } from "../markup.ts";
import { engineNamer } from "../report.ts";
import { plural } from "../text.ts";

export type Figure = {
  readonly scenario: string;
  readonly proposal: string;
  /** Engine, with its kernel where there are several; or what was the first consequence. */
  readonly group: string;
  readonly value: number;
};

/** Faults a second of every loop that a real kernel showed. */
export function faultRates(results: readonly CaseResult[]): readonly Figure[] {
  const nameOf = engineNamer(results);
  return results.flatMap((result) => {
    if (result.result?.kind !== "evidence" || !result.planned.nature.isReal) return [];
    const loops = (result.result.evidence.observations.vmm ?? []).filter((vmm) => vmm.kind === "looping");
    return loops.map(({ faultsPerSecond }) => ({
      scenario: result.planned.scenario.id,
      proposal: result.planned.proposal.id,
      group: nameOf(result),
      value: faultsPerSecond,
    }));
  });
}

function consequenceOf({ kind, detail }: TraceEvent, end: "loop" | "exit"): string | null {
  switch (kind) {
    case "sigbus":
      return "SIGBUS";
    case "sigsegv":
      return "SIGSEGV";
    case "exception":
      return "exception in the guest";
    case "inject":
      return "the VMM injects";
    case "exit":
      return "KVM_RUN returns";
    case "signal":
      // Raised for a vCPU that has stopped, too.
      return detail !== "stuck" ? null : end === "loop" ? "the loop is proven" : "KVM_RUN returns";
    default:
      return null;
  }
}

/** Milliseconds from the first truncation or punched hole to the first consequence, of cases on real kernels. */
export function latencies(results: readonly CaseResult[]): readonly Figure[] {
  return results.flatMap((result) => {
    if (result.result?.kind !== "evidence" || !result.planned.nature.isReal) return [];
    const { trace, observations } = result.result.evidence;
    const isLoop = observations.vmm?.some(({ kind }) => kind === "looping") ?? false;
    const end = isLoop ? "loop" : "exit";
    const cut = trace.find(({ kind }) => kind === "truncate" || kind === "punch");
    if (cut === undefined) return [];
    const after = trace.find((event) => event.atMs > cut.atMs && consequenceOf(event, end) !== null);
    if (after === undefined) return [];
    return [
      {
        scenario: result.planned.scenario.id,
        proposal: result.planned.proposal.id,
        group: consequenceOf(after, end) ?? "",
        value: after.atMs - cut.atMs,
      },
    ];
  });
}

/** How the failure of an access was reported to its task; null: it did not fail, or nothing was reported. */
function reportOf(access: Access | undefined): string | null {
  switch (access?.kind) {
    case "sigbus":
      return "SIGBUS";
    case "sigsegv":
      return "SIGSEGV";
    case "efault":
      return "-EFAULT of a system call";
    case "errno":
      return "another error of a system call";
    default:
      return null;
  }
}

/** Milliseconds from the start of an access until its failure was reported to its task. */
export function failureTimes(results: readonly CaseResult[]): readonly Figure[] {
  return results.flatMap((result) => {
    if (result.result?.kind !== "evidence" || !result.planned.nature.isReal) return [];
    const { observations, accessMs } = result.result.evidence;
    return Object.entries(accessMs).flatMap(([actor, labels]) =>
      Object.entries(labels).flatMap(([label, value]): Figure[] => {
        const group = reportOf(observations.accesses[actor]?.[label]);
        if (group === null) return [];
        const { scenario, proposal } = result.planned;
        return [{ scenario: scenario.id, proposal: proposal.id, group, value }];
      }),
    );
  });
}

/** Vega-Lite's configuration: the page's own font and colours, light and dark. */
const look = {
  font: "system-ui, sans-serif",
  view: { stroke: null },
  axis: {
    labelColor: "currentColor",
    titleColor: "currentColor",
    domainColor: "currentColor",
    tickColor: "currentColor",
    gridColor: "currentColor",
    gridOpacity: 0.15,
    labelFontSize: 12,
    labelLimit: 260,
  },
  legend: { labelColor: "currentColor", titleColor: "currentColor", labelLimit: 320 },
};

type PlotText = { readonly title: string; readonly axis: string; readonly group: string };

/** Vega-Lite's specification of a strip plot on a logarithmic axis. */
function specOf(figures: readonly Figure[], proposals: readonly string[], { axis, group }: PlotText): object {
  return {
    width: 620,
    height: { step: 26 },
    background: null,
    data: { values: figures.filter(({ value }) => value > 0) },
    mark: { type: "point", filled: true, size: 55, opacity: 0.85 },
    encoding: {
      x: { field: "value", type: "quantitative", scale: { type: "log", nice: true }, title: axis },
      y: { field: "proposal", type: "nominal", sort: proposals, title: null },
      color: {
        field: "group",
        type: "nominal",
        title: group,
        scale: { range: ["#3d85c6", "#d9822b", "#2f9e6e", "#b4577f", "#7a6fd0", "#8a8f3c"] },
      },
      shape: { field: "group", type: "nominal", title: group },
    },
    config: look,
  };
}

export type Histogram = {
  readonly label: string;
  /** Upper ends, null for none, with counts. */
  readonly bins: readonly { readonly upTo: number | null; readonly count: number }[];
};

type HistogramText = {
  readonly title: string;
  readonly axis: string;
  /** What is counted, in the plural. */
  readonly counted: string;
};

/** The bins that are not empty in all of them, without those before the first and behind the last. */
function filledBins(histograms: readonly Histogram[]): readonly (number | null)[] {
  const ends = histograms[0]?.bins.map(({ upTo }) => upTo) ?? [];
  const filled = ends.map((_, index) => histograms.some(({ bins }) => (bins[index]?.count ?? 0) > 0));
  return ends.slice(Math.max(0, filled.indexOf(true)), filled.lastIndexOf(true) + 1);
}

const binText = (upTo: number | null): string => (upTo === null ? "more" : upTo.toLocaleString("en-US"));

/** One row of bars for each; the heights are shares, so that rows of other sizes compare. */
function histogramSpec(
  histograms: readonly Histogram[],
  ends: readonly (number | null)[],
  text: HistogramText,
): object {
  const values = histograms.flatMap(({ label, bins }) => {
    const total = Math.max(
      1,
      bins.reduce((sum, { count }) => sum + count, 0),
    );
    return bins
      .filter(({ upTo }) => ends.includes(upTo))
      .map(({ upTo, count }) => ({ label, bin: binText(upTo), share: (100 * count) / total }));
  });
  return {
    width: 620,
    height: 64,
    background: null,
    data: { values },
    mark: { type: "bar", color: "#3d85c6", binSpacing: 1 },
    encoding: {
      x: {
        field: "bin",
        type: "ordinal",
        sort: ends.map(binText),
        title: text.axis,
        scale: { paddingInner: 0.06 },
        axis: { labelAngle: -40 },
      },
      y: { field: "share", type: "quantitative", title: null, axis: { tickCount: 3, format: "d" } },
      row: {
        field: "label",
        type: "nominal",
        sort: histograms.map(({ label }) => label),
        title: `% of ${text.counted}`,
        header: {
          labelAngle: 0,
          labelAlign: "left",
          labelOrient: "top",
          labelAnchor: "start",
          labelColor: "currentColor",
          titleColor: "currentColor",
          labelFontSize: 12,
          labelPadding: 2,
        },
      },
    },
    config: look,
  };
}

/** Histograms with their counts in a table; null without any. */
export async function histogramFigure(
  histograms: readonly Histogram[],
  text: HistogramText,
): Promise<Markup | null> {
  const ends = filledBins(histograms);
  if (ends.length === 0) return null;
  const svg = await draw(histogramSpec(histograms, ends, text));
  const head = histograms.map(({ label }) => markup`<th scope="col">${label}</th>`);
  const rows = ends.map((end) => {
    const counts = histograms.map(
      ({ bins }) => markup`<td>${bins.find(({ upTo }) => upTo === end)?.count ?? 0}</td>`,
    );
    return markup`<tr><th scope="row">${binText(end)}</th>${counts}</tr>`;
  });
  return markup`<h3>${text.title}</h3>${plotMarkup(svg, `${text.title}, a histogram`)}<details><summary>The counts</summary><div class="scroll" tabindex="0" role="region" aria-label="The counts"><table><thead><tr><th scope="col">${text.axis}</th>${head}</tr></thead><tbody>${rows}</tbody></table></div></details>`;
}

function plotMarkup(svg: string | null, label: string): Markup {
  return svg === null
    ? markup`<p class="soft">No plot: the optional packages vega and vega-lite are not installed (npm install vega vega-lite). The figures are below.</p>`
    : markup`<div class="plot" role="img" aria-label="${label}; the figures are in the table below">${trusted(svg)}</div>`;
}

/** The plot as SVG; null where the packages are not installed. */
async function draw(spec: object): Promise<string | null> {
  let vega: typeof import("vega");
  let lite: typeof import("vega-lite");
  try {
    [vega, lite] = await Promise.all([import("vega"), import("vega-lite")]);
  } catch {
    return null;
  }
  const compiled = lite.compile(spec as Parameters<typeof lite.compile>[0]).spec;
  const view = new vega.View(vega.parse(compiled), { renderer: "none" });
  const svg = await view.toSVG();
  view.finalize();
  return svg;
}

function valueText(value: number): string {
  return value >= 100 ? Math.round(value).toLocaleString("en-US") : value.toFixed(2);
}

function figureTable(figures: readonly Figure[], { axis, group }: PlotText): Markup {
  const rows = figures.map(
    (figure) =>
      markup`<tr><th scope="row">${figure.scenario}</th><td>${figure.proposal}</td><td>${figure.group}</td><td>${valueText(figure.value)}</td></tr>`,
  );
  return markup`<div class="scroll" tabindex="0" role="region" aria-label="The figures"><table><thead><tr><th scope="col">scenario</th><th scope="col">proposal</th><th scope="col">${group}</th><th scope="col">${axis}</th></tr></thead><tbody>${rows}</tbody></table></div>`;
}

/** A plot with its figures; null without figures. */
export async function plotFigure(
  figures: readonly Figure[],
  proposals: readonly string[],
  text: PlotText,
): Promise<Markup | null> {
  if (figures.length === 0) return null;
  const svg = await draw(specOf(figures, proposals, text));
  const plot = plotMarkup(svg, `${text.title}, one point a case`);
  return markup`<h3>${text.title}</h3>${plot}<details><summary>${plural(figures.length, "figure")}</summary>${figureTable(figures, text)}</details>`;
}

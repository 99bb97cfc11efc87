/**
 * The plots: how fast a hung vCPU faults, and how long it takes from a truncation to its first consequence. Drawn by
 * Vega-Lite without a browser; it is an optional package, and without it the figures stand in tables alone.
 */
import type { TraceEvent } from "../../evidence.ts";
import type { CaseResult } from "../../run/runner.ts";
import { type Markup, markup, trusted } from "../markup.ts";
import { engineNamer } from "../report.ts";

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
    if (result.result?.kind !== "evidence" || result.planned.engine === "model") return [];
    const loops = (result.result.evidence.observations.vmm ?? []).filter((vmm) => vmm.kind === "looping");
    return loops.map(({ faultsPerSecond }) => ({
      scenario: result.planned.scenario.id,
      proposal: result.planned.proposal.id,
      group: nameOf(result),
      value: faultsPerSecond,
    }));
  });
}

function consequenceOf({ kind, detail }: TraceEvent, isLoop: boolean): string | null {
  switch (kind) {
    case "sigbus":
      return "SIGBUS";
    case "exception":
      return "exception in the guest";
    case "inject":
      return "the VMM injects";
    case "exit":
      return "KVM_RUN returns";
    case "signal":
      // Raised for a vCPU that has stopped, too.
      return detail !== "stuck" ? null : isLoop ? "the loop is proven" : "KVM_RUN returns";
    default:
      return null;
  }
}

/** Milliseconds from the first truncation or punched hole to the first consequence, of cases on real kernels. */
export function latencies(results: readonly CaseResult[]): readonly Figure[] {
  return results.flatMap((result) => {
    if (result.result?.kind !== "evidence" || result.planned.engine === "model") return [];
    const { trace, observations } = result.result.evidence;
    const isLoop = observations.vmm?.some(({ kind }) => kind === "looping") ?? false;
    const cut = trace.find(({ kind }) => kind === "truncate" || kind === "punch");
    if (cut === undefined) return [];
    const after = trace.find((event) => event.atMs > cut.atMs && consequenceOf(event, isLoop) !== null);
    if (after === undefined) return [];
    return [
      {
        scenario: result.planned.scenario.id,
        proposal: result.planned.proposal.id,
        group: consequenceOf(after, isLoop) ?? "",
        value: after.atMs - cut.atMs,
      },
    ];
  });
}

/** Milliseconds from the start of an access to the moment at which its task was told that it had failed. */
export function toldAfter(results: readonly CaseResult[]): readonly Figure[] {
  return results.flatMap((result) => {
    if (result.result?.kind !== "evidence" || result.planned.engine === "model") return [];
    const { observations, accessMs } = result.result.evidence;
    return Object.entries(accessMs).flatMap(([actor, labels]) =>
      Object.entries(labels).flatMap(([label, value]): Figure[] => {
        const access = observations.accesses[actor]?.[label];
        if (access?.kind !== "sigbus" && access?.kind !== "efault") return [];
        const { scenario, proposal } = result.planned;
        const group = access.kind === "sigbus" ? "SIGBUS" : "-EFAULT of a system call";
        return [{ scenario: scenario.id, proposal: proposal.id, group, value }];
      }),
    );
  });
}

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
    config: {
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
    },
  };
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
  const plot =
    svg === null
      ? markup`<p class="soft">No plot: the optional packages vega and vega-lite are not installed (npm install vega vega-lite). The figures are below.</p>`
      : markup`<div class="plot" role="img" aria-label="${text.title}, one point a case; the figures are in the table below">${trusted(svg)}</div>`;
  return markup`<h3>${text.title}</h3>${plot}<details><summary>The ${figures.length} figures</summary>${figureTable(figures, text)}</details>`;
}

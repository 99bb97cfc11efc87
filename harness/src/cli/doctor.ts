/** `daxfault doctor`: what this machine can run, engine by engine; what not, why, and what to do. */

import { exitCodes } from "../../../language/src/index.ts";
import { type ProbeResult, probeGroups, runProbes } from "../doctor/probes.ts";
import { engineRows } from "../engines/registry.ts";
import { type Feature, type FeatureName, featureNames, type MachineFacts, thisMachine } from "../machine.ts";
import { visibleData } from "../report/encode.ts";
import { isNarrow, paragraph, type Style, wrap } from "../report/style.ts";
import { live } from "../run/live.ts";
import { SurroundingsError } from "../surroundings.ts";
import type { DoctorLine } from "./lines/doctor.ts";
import { openJson } from "./output.ts";

const what: Readonly<Record<FeatureName, string>> = {
  kvm: "virtual machines",
  "micro-guest": "the guest that runs in them",
  steps: "guest tasks as processes of the host",
  "linux-guest": "a Linux guest: run --engine linux",
  fuse: "scenarios with our FUSE mount: under the window, or in the hands of a host process",
  "fuse-native": "the second way to mount: daxfault serve --transport libfuse",
  root: "scenarios on a tmpfs of their own",
  swap: "scenarios whose pages have been swapped out",
  hugetlb: "a pool of huge pages that runs dry",
  userfaultfd: "memory that a handler fills page by page",
  "memory-failure": "pages that the host has lost to a memory error",
  "direct-io": "scenarios in which a process of the host has O_DIRECT",
  "mmap-io": "the second way to map: run --engine mmap-io",
};

export type EngineReport = {
  readonly engine: string;
  readonly runs: "yes" | "partly" | "no";
  readonly missing: readonly FeatureName[];
};

/** Which engines run here: `partly` if only some scenarios do. */
export function engineReports(machine: MachineFacts): readonly EngineReport[] {
  const isMissing = (name: FeatureName): boolean => machine.features[name].kind === "missing";
  return engineRows.map(({ name: engine, needs, someNeed }) => {
    const fatal = needs.filter(isMissing);
    const partial = someNeed.filter(isMissing);
    const runs = fatal.length > 0 ? "no" : partial.length > 0 ? "partly" : "yes";
    return { engine, runs, missing: [...fatal, ...partial] };
  });
}

const TITLE_COLUMNS = 38;

const NO_FIX = "nothing can be done about it here; use another machine or kernel";

/** The same as a list, for a narrow terminal. */
function featureList(name: string, purpose: string, feature: Feature, style: Style): readonly string[] {
  const word = feature.kind === "present" ? style.verdict("pass", "ok") : style.verdict("fail", "missing");
  const texts =
    feature.kind === "present"
      ? [feature.detail]
      : [feature.reason, `costs: ${purpose}`, `do: ${feature.fix ?? NO_FIX}`];
  return [
    ...paragraph(`${name}: ${word}`, style.widthColumns, { first: 2, rest: 4 }),
    ...texts.flatMap((text) => paragraph(text, style.widthColumns, { first: 4, rest: 6 })),
  ];
}

/** Present, or missing with what that costs and the one command that mends it. */
function featureLines(name: string, purpose: string, feature: Feature, style: Style): readonly string[] {
  if (isNarrow(style)) return featureList(name, purpose, feature, style);
  const title = `  ${name.padEnd(TITLE_COLUMNS - 2)}`;
  const margin = " ".repeat(TITLE_COLUMNS + 9);
  const room = Math.max(40, style.widthColumns - margin.length);
  const detail = wrap(feature.kind === "present" ? feature.detail : feature.reason, room);
  const [first = "", ...rest] = detail;
  const more = rest.map((line) => `${margin}${line}`);
  if (feature.kind === "present") return [`${title}${style.verdict("pass", "ok")}       ${first}`, ...more];
  return [
    `${title}${style.verdict("fail", "missing")}  ${first}`,
    ...more,
    `${margin}costs: ${purpose}`,
    `${margin}do:    ${feature.fix ?? NO_FIX}`,
  ];
}

function engineLines(machine: MachineFacts, style: Style): readonly string[] {
  return engineReports(machine).flatMap(({ engine, runs, missing }) => {
    const kind = runs === "yes" ? "pass" : runs === "partly" ? "xfail" : "fail";
    const text = { yes: "runs", partly: "runs, without some scenarios", no: "does not run" }[runs];
    const reason = missing.length === 0 ? "" : ` (missing: ${missing.join(", ")})`;
    const said = `${style.verdict(kind, text)}${reason}`;
    return isNarrow(style)
      ? paragraph(`${engine}: ${said}`, style.widthColumns, { first: 2, rest: 4 })
      : `  ${engine.padEnd(TITLE_COLUMNS - 2)}${said}`;
  });
}

/** A group of which everything is missing for one reason is that reason. */
function groupLines(probes: readonly ProbeResult[], style: Style): readonly string[] {
  const reasons = new Set(
    probes.map(({ feature }) => (feature.kind === "missing" ? `${feature.reason}\n${feature.fix}` : null)),
  );
  const [first] = probes;
  if (reasons.size === 1 && first?.feature.kind === "missing" && probes.length > 1) {
    const names = `all ${probes.length} of them`;
    return featureLines(names, "what each is for: daxfault doctor --json -", first.feature, style);
  }
  return probes.flatMap(({ name, purpose, feature }) => featureLines(name, purpose, feature, style));
}

export function doctorText(found: MachineFacts, probed: readonly ProbeResult[], style: Style): string {
  const { machine, probes } = visibleData({ machine: found, probes: probed });
  const { runDirectory } = machine;
  const groups = probeGroups.flatMap((group) => [
    "",
    style.bold(group),
    ...groupLines(
      probes.filter((probe) => probe.group === group),
      style,
    ),
  ]);
  return [
    ...[
      `Linux ${machine.kernel}, Node ${machine.node}, page size ${machine.pageSize}, KVM backend ${machine.kvmBackend ?? "none"}`,
      `run directories in ${runDirectory.path} on ${runDirectory.fileSystem}`,
    ].flatMap((text) => paragraph(text, style.widthColumns, { first: 0, rest: 2 })),
    "",
    style.bold("Engines"),
    ...engineLines(machine, style),
    "",
    style.bold("What engines need"),
    ...featureNames.flatMap((name) => featureLines(name, what[name], machine.features[name], style)),
    ...groups,
    "",
    ...paragraph(
      "A VM of this machine hangs, or may: daxfault diagnose says why, rescue ends it, protect keeps it from happening (docs/vm-hangs.md).",
      style.widthColumns,
      { first: 0, rest: 2 },
    ),
  ].join("\n");
}

/** Probes make files and start a server: in a folder that goes away. Where there can be none, they say why. */
async function probeHere(): Promise<readonly ProbeResult[]> {
  try {
    const { value, left } = await live({ signals: "kernel" }, ({ directory }) =>
      runProbes({ folder: () => directory.path }),
    );
    for (const one of left) console.error(`daxfault doctor: defect: ${one}`);
    return value ?? [];
  } catch (error) {
    if (!(error instanceof SurroundingsError)) throw error;
    const refuse = (): never => {
      throw error;
    };
    return runProbes({ folder: refuse });
  }
}

/** Exit 0 if at least one engine runs, 3 if none does. */
export async function doctor(options: { readonly json?: string }, style: Style): Promise<number> {
  const machine = thisMachine();
  const json = openJson<DoctorLine>(options.json);
  const reports = engineReports(machine);
  const { features, ...rest } = machine;
  const probes = await probeHere();
  json.write({ type: "machine", ...rest });
  for (const name of featureNames) {
    json.write({ type: "feature", name, group: "engines", purpose: what[name], ...features[name] });
  }
  for (const { feature, ...probe } of probes) json.write({ type: "feature", ...probe, ...feature });
  for (const report of reports) json.write({ type: "engine", ...report });
  if (!json.isStdout) console.log(doctorText(machine, probes, style));
  return reports.some(({ runs }) => runs !== "no") ? exitCodes.ok : exitCodes.nothingRan;
}

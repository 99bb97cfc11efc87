/**
 * The bundle of a reproduction: a folder that can be attached as it is. `report.txt` is the mail,
 * `report.html` the same for a browser, `evidence.jsonl` the recorded run, `trace.txt` KVM's tracepoints or counters, `environment.json` the machine,
 * `scenario.json` the case, `console.txt` the console of the kernel that was booted, `guest-console.txt` that of a Linux guest, `repro.sh` runs it again, `reproducer.c` shows the defect without daxfault.
 */
import { type KvmTrace, scenarioSource } from "../../../language/src/index.ts";
import { jsonText, visible, visibleLines } from "../report/encode.ts";
import { recordSchema } from "../report/jsonl.ts";
import { mailText } from "../report/mail.ts";
import type { Report } from "../report/report.ts";
import { counterLines, eventLine, unitOf } from "../report/story.ts";
import { caseTitle } from "../report/text.ts";
import { placeOption, shellWord } from "../run/plan.ts";
import type { CaseResult } from "../run/result.ts";
import type { TraceText } from "../tracing/tracefs.ts";
import { type Environment, environmentLines } from "./environment.ts";
import type { BundleFile } from "./folder.ts";
import type { Reproducer } from "./reproducer.ts";

export type Bundle = {
  readonly report: Report;
  readonly result: CaseResult;
  /** The lines of the recorded run. */
  readonly lines: readonly unknown[];
  readonly trace: TraceText;
  readonly environment: Environment;
  readonly reproducer: Reproducer;
  readonly timeoutMs: number;
  /** The report for a browser. */
  readonly html: string;
};

const noTrace = ({ reason }: { readonly reason: string }): string[] => [
  `# No tracepoints: ${visible(reason)}.`,
];

function traceLines(trace: TraceText): string[] {
  if (trace.kind === "none") return noTrace(trace);
  const { events, lost, text } = trace;
  return [
    visible(`# Tracepoints ${events.join(", ")} from tracefs:`),
    visibleLines(text),
    ...(lost === 0 ? [] : [`# ${lost} more found no room in the buffer.`]),
  ];
}

/** Of the kernel that was booted for the case: about the guest's window alone. */
function kvmTraceLines(trace: KvmTrace): string[] {
  if (trace.kind === "none") return noTrace(trace);
  const { events, lines, cut } = trace;
  return [
    visible(`# Tracepoints ${events.join(", ")} of the booted kernel, about the guest's window:`),
    ...lines.map(visible),
    ...(cut === 0 ? [] : [`# ${cut} more were left out.`]),
  ];
}

function traceText({ trace, result }: Bundle): string {
  const evidence = result.result?.kind === "evidence" ? result.result.evidence : null;
  const events = (evidence?.trace ?? []).map((event) => visible(eventLine(event, unitOf(result))));
  const counters = evidence === null ? [] : counterLines(evidence).map(visible);
  const inside = evidence?.kvmTrace ?? null;
  const kernel = inside === null ? traceLines(trace) : kvmTraceLines(inside);
  return [
    "# Events of the case:",
    ...events,
    "",
    "# KVM's counters of the vCPU at the end (KVM_GET_STATS_FD), those that are not zero:",
    ...(counters.length === 0 ? ["(none)"] : counters),
    "",
    ...kernel,
    "",
  ].join("\n");
}

/** The console of a booted kernel, if it was kept. */
function consoleText(lines: readonly unknown[]): string | null {
  const [first] = lines
    .map((line) => recordSchema.parse(line))
    .flatMap((record) => (record.type === "console" ? [record.lines] : []));
  return first === undefined ? null : `${first.map(visible).join("\n")}\n`;
}

/** What a Linux guest's kernel said during the case. */
function guestConsoleText(lines: readonly string[]): string {
  if (lines.length === 0) return "(The guest's kernel said nothing during the case.)\n";
  return lines.map((line) => `${visible(line)}\n`).join("");
}

/** The proposal's file for `--proposals`, if it is none of the presets. */
function ownProposal({ result }: Bundle, presets: readonly string[]): string | null {
  const { proposal } = result.planned;
  return presets.includes(proposal.id) ? null : `${jsonText(proposal, 2)}\n`;
}

/** @param options what the command line needs besides the scenario; begins with a blank, or empty */
function replayScript({ result, timeoutMs }: Bundle, options: string): string {
  const { scenario, proposal } = result.planned;
  return `#!/bin/sh
# Runs ${caseTitle(result)} again, from scenario.json beside this file (hash ${scenario.hash}).
# Exits like daxfault run: 0 as expected, 1 not, 2 proves nothing, 3 did not run.
# DAXFAULT: how daxfault is called, for example /path/to/checkout/scripts/daxfault.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
daxfault=\${DAXFAULT:-daxfault}
if ! command -v "\${daxfault%% *}" >/dev/null; then
  echo "repro.sh: \${daxfault%% *} is not found; set DAXFAULT, for example to /path/to/checkout/scripts/daxfault" >&2
  exit 127
fi
exec $daxfault run "$here/scenario.json"${options} --proposal ${shellWord(proposal.id)} ${placeOption(result.planned)} --timeout ${Math.ceil(timeoutMs / 1000)} "$@"
`;
}

/** Everything that the folder holds, by name. */
export function bundleFiles(bundle: Bundle, presets: readonly string[]): readonly BundleFile[] {
  const proposal = ownProposal(bundle, presets);
  const { reproducer, environment, lines, report, result } = bundle;
  const files: BundleFile[] = [
    { name: "report.txt", text: mailText(report, environmentLines(environment)) },
    { name: "report.html", text: bundle.html },
    { name: "evidence.jsonl", text: lines.map((line) => `${jsonText(line)}\n`).join("") },
    { name: "trace.txt", text: traceText(bundle) },
    { name: "environment.json", text: `${jsonText(environment, 2)}\n` },
    {
      name: "scenario.json",
      text: `${jsonText(scenarioSource(result.planned.scenario), 2)}\n`,
    },
    {
      name: "repro.sh",
      text: replayScript(bundle, proposal === null ? "" : ` --proposals "$here/proposal.json"`),
    },
  ];
  const console = consoleText(lines);
  if (console !== null) files.push({ name: "console.txt", text: console });
  const guest = result.result?.kind === "evidence" ? result.result.evidence.guestConsole : undefined;
  if (guest !== undefined) files.push({ name: "guest-console.txt", text: guestConsoleText(guest) });
  if (proposal !== null) files.push({ name: "proposal.json", text: proposal });
  if (reproducer.kind === "source") files.push({ name: "reproducer.c", text: reproducer.text });
  return files;
}

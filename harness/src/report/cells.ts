/** The outcome of one case in a few short lines: a cell of the table. */
import {
  type Access,
  type AccessKind,
  accessesOf,
  type Evidence,
  type FaultPlace,
  guestActors,
  hex,
  isBystander,
  type Scenario,
  type StopReason,
  UNOBSERVED,
  type VerdictKind,
  type Vmm,
} from "../../../language/src/index.ts";
import type { CaseResult } from "../run/result.ts";

export const glyphs: Readonly<Record<VerdictKind, string>> = {
  pass: "✓",
  fail: "✗",
  xfail: "≈",
  xpass: "!",
  skip: "-",
  inconclusive: "?",
};

const stopCells: Readonly<Record<StopReason, string>> = {
  efault: "EFAULT",
  "memory-fault": "memory fault exit",
  mmio: "MMIO exit",
  "internal-error": "internal error",
  "triple-fault": "triple fault",
};

/** The language's words as the table's narrow columns have them. */
const accessCells: Readonly<Record<AccessKind, string>> = {
  value: "value",
  zero: "zeros",
  stale: "stale",
  sigbus: "SIGBUS",
  sigsegv: "SIGSEGV",
  efault: "EFAULT to the task",
  errno: "error to the task",
  short: "short",
  done: "done",
  killed: "killed",
  hung: "hung",
  "not-reached": "not reached",
};

/** Words longer than this have a line of their own: the table's columns are to stay narrow. */
const WORD_COLUMNS = 10;

function placeLines(word: string, at: FaultPlace | null): readonly string[] {
  if (at === null) return [word];
  const rip = hex(at.rip);
  const gpa = at.gpa === null ? "none" : hex(at.gpa);
  const hva = `hva ${at.hva === null ? "none" : hex(at.hva)}`;
  if (word.length <= WORD_COLUMNS) return [`${word} at rip ${rip},`, `cpl ${at.cpl}, gpa ${gpa},`, hva];
  return [`${word} at`, `rip ${rip}, cpl ${at.cpl},`, `gpa ${gpa},`, hva];
}

/** How many hex digits of stale bytes a cell shows: the last ones. */
const STALE_DIGITS = 16;

export function accessCell(access: Access): string {
  const cell = accessCells[access.kind];
  switch (access.kind) {
    case "stale": {
      const text = access.value.toString(16);
      return `${cell} 0x${text.length > STALE_DIGITS ? `..${text.slice(-STALE_DIGITS)}` : text}`;
    }
    case "sigbus":
    case "sigsegv":
      return access.code === UNOBSERVED ? cell : `${cell} (${access.code})`;
    case "errno":
      return `${access.errno} to the task`;
    case "short":
      return `${cell}: ${access.bytes} bytes`;
    default:
      return cell;
  }
}

/** A state of a VMM that went on is not shown: what the guest then saw is. */
function vmmLines(vmm: Vmm): readonly string[] {
  switch (vmm.kind) {
    case "running":
      return [];
    case "stopped":
      return placeLines(stopCells[vmm.reason], vmm.at);
    case "killed":
      return [`VMM killed by ${vmm.signal}`];
    case "waiting":
      return placeLines("waiting", vmm.at);
    case "looping":
      // The model has no time: its loops have no rate.
      return vmm.faultsPerSecond === 0
        ? ["looping"]
        : [`looping: ${Math.round(vmm.faultsPerSecond).toLocaleString("en-US")} faults/s`];
  }
}

/** More tasks than this are counted instead of named. */
const NAMED_MAX = 4;

/** `first: SIGBUS`; of many, `100 tasks: SIGBUS`. */
function namedLines(entries: readonly (readonly [string, string])[]): readonly string[] {
  if (entries.length <= NAMED_MAX) return entries.map(([name, text]) => `${name}: ${text}`);
  const counts = new Map<string, number>();
  for (const [, text] of entries) counts.set(text, (counts.get(text) ?? 0) + 1);
  return [...counts].map(([text, count]) => `${count} task${count === 1 ? "" : "s"}: ${text}`);
}

/** What the guest's tasks saw at their last access, and whether counting tasks got on. */
function taskLines(scenario: Scenario, evidence: Evidence): readonly string[] {
  const guests = guestActors(scenario);
  const victims = guests.filter(([, actor]) => accessesOf(actor).length > 0);
  const isDead = evidence.observations.vmm?.at(-1)?.kind !== "running" && evidence.observations.vmm !== null;
  const entries: (readonly [string, string])[] = [];
  for (const [name, actor] of victims) {
    const label = accessesOf(actor).at(-1)?.label ?? "";
    const access = evidence.observations.accesses[name]?.[label];
    // Killed with the VM, or hung in its loop: the VM's own lines show it.
    if (access === undefined || (isDead && (access.kind === "killed" || access.kind === "hung"))) continue;
    entries.push([name, accessCell(access)]);
  }
  const lines = victims.length > 1 ? [...namedLines(entries)] : entries.map(([, text]) => text);
  for (const [name, actor] of guests) {
    const state = evidence.observations.bystanders[name];
    if (isBystander(actor) && state !== undefined) lines.push(`${name}: ${state}`);
  }
  return lines;
}

function evidenceLines(scenario: Scenario, evidence: Evidence): readonly string[] {
  const history = (evidence.observations.vmm ?? []).flatMap(vmmLines);
  const tasks = taskLines(scenario, evidence);
  const [first, ...rest] = tasks;
  if (history.length === 0 || first === undefined) return [...history, ...tasks];
  const wentOn = evidence.observations.vmm?.at(-1)?.kind === "running";
  return [...history, wentOn ? `then: ${first}` : first, ...rest];
}

/** Width of the longest usual line, `looping: 22,134 faults/s` with its sign: an engine's name is not to widen the column. */
const CELL_COLUMNS = 26;

/** The cell's lines, the verdict's sign first; with the engine's name where a cell holds several engines. */
export function cellLines(result: CaseResult, engine: string | null = null): readonly string[] {
  const { verdict, planned } = result;
  const sign = engine === null ? glyphs[verdict.kind] : `${glyphs[verdict.kind]} ${engine}:`;
  if (verdict.kind === "skip") return [glyphs.skip];
  if (result.result?.kind !== "evidence") {
    return [`${sign} ${verdict.kind === "inconclusive" ? verdict.cause : verdict.kind}`];
  }
  const [first = "nothing seen", ...rest] = evidenceLines(planned.scenario, result.result.evidence);
  const indented = rest.map((line) => `  ${line}`);
  const joined = `${sign} ${first}`;
  return engine !== null && joined.length > CELL_COLUMNS
    ? [sign, `  ${first}`, ...indented]
    : [joined, ...indented];
}

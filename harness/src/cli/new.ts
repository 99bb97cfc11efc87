/** `daxfault new`: a starting point for a scenario of one's own, with comments that say what can stand where. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { basename, dirname, join } from "node:path";
import { answers, backingKinds, exitCodes, propertyIds, proposals } from "../../../language/src/index.ts";
import { errorText } from "../error-text.ts";
import { visible } from "../report/encode.ts";
import { UsageError } from "./usage.ts";

const ID = /^[a-z0-9][a-z0-9.-]*$/;

/** Comments in lines that a narrow window shows. */
function list(words: readonly string[], indent: string): string {
  const lines: string[] = [];
  let line = "";
  for (const word of words) {
    if (line.length + word.length > 80) {
      lines.push(line);
      line = "";
    }
    line += line === "" ? word : `, ${word}`;
  }
  return [...lines, line].map((text) => `${indent}//   ${text}`).join("\n");
}

function scenarioText(id: string): string {
  return `// A scenario: what is mapped, who does what, when. Comments and trailing commas are allowed.
// Try it:      daxfault run ${id}.json
// Its folder:  daxfault run --scenarios . (expectations: kinds/${id}.json beside it)
{
  "id": ${JSON.stringify(id)},
  "purpose": "One sentence: what this case is to show.",

  // What is behind the guest's memory. kind: ${backingKinds.join(", ")}.
  // A size is 4096, "0x1000" or "4KiB", a multiple of the page.
  "backing": { "kind": "host-file", "size": "4MiB" },

  // Which part of the file is where in the DAX window. Left out: the whole file at 0.
  "window": [{ "file": 0, "at": 0, "length": "2MiB" }],

  "actors": {
    // A task of the guest at CPL 3. Steps: load OFFSET SIZE, store OFFSET SIZE VALUE, atomic OFFSET SIZE,
    // copy-from OFFSET SIZE, copy-to OFFSET SIZE VALUE, kernel-read OFFSET SIZE, kernel-write OFFSET SIZE VALUE,
    // signal NAME, await NAME, count (for ever, as a bystander; last); on the file, engines process and linux only:
    // file-read OFFSET SIZE, file-write OFFSET SIZE VALUE, file-size, file-truncate SIZE, fsync, msync OFFSET SIZE,
    // file-read-direct OFFSET SIZE, kernel-pin OFFSET, fork-load OFFSET SIZE, exec.
    "victim": {
      "in": "guest-task",
      "steps": ["load 0x1000 8", "signal touched", "await cut", "load 0x1000 8"],
    },
    // A task that has nothing to do with it: does it still get on?
    "bystander": { "in": "guest-task", "steps": ["count"] },
    // A process of the host. Steps: truncate SIZE, punch OFFSET LENGTH, rename-over, unlink, signal NAME, await NAME;
    // "await stuck" waits until the vCPU has stopped or is proven to loop.
    "host": { "in": "host-process", "steps": ["await touched", "truncate 0", "signal cut"] },
  },

  // What must have been seen for the run to mean anything.
  "witness": ["victim.load#1 is value", "host.truncate#1 is done"],

  // Which columns of the scorecard it decides:
${list(propertyIds, "  ")}
  "properties": ["terminates", "contained", "precise-load"],

  // Which proposals it is about; leave it out for all of them:
${list(
  proposals.map((proposal) => proposal.id),
  "  ",
)}
  // or all with an answer, what they do with a fault that cannot be resolved ("today @exits": of today's KVM):
${list(
  answers.map((answer) => `@${answer}`),
  "  ",
)}
  "proposals": ["native", "efault-exit", "apf-loop"],
}
`;
}

function kindsText(id: string): string {
  return `// What is expected of ${id}: cells by proposal ("native", "poison remap-zero"), by answer ("@exits"), or for all ("*");
// the narrowest is taken. Run it first: without a cell the verdict is inconclusive and the table shows what was seen.
// A cell is the VMM's history, then what is not as ever: accesses that are not listed are value, host steps done.
// "victim.last" is the victim's last access; "lost": what an access to a lost page sees under the proposal's answer.
{
  "about": "Where these expectations come from.",
  "rows": {
    ${JSON.stringify(id)}: {
      "native": "victim.last sigbus; bystander progress",
      "@exits": "stopped(efault); victim.last killed; bystander starved",
      "@loops": "victim.last lost",
    },
  },
}
`;
}

function proposalText(id: string): string {
  return `// A proposal: how a fault that cannot be resolved is dealt with, a point on the axes.
// Try it:  daxfault run load-after-truncate --proposals ${id}.json --proposal ${id}
// The values of the axes: daxfault list proposals --json - shows those of the project's own.
{
  "id": ${JSON.stringify(id)},
  "title": "One line that says what changes where.",
  "kvm": "uniform-efault",
  // What makes a failed fault an exit: "kvm", what KVM does by itself; "fence" or "hlt-in-guest", of the VMM's making.
  "exits": "kvm",
  // What the VMM does there.
  "vmm": "stop",
  "guest": "apf",
  "server": "none",
  // Where the local APIC lives: "kernel" makes asynchronous page faults possible, "user" does not; null without a VM.
  "lapic": "kernel",
}
`;
}

function write(path: string, text: string): void {
  if (existsSync(path)) throw new UsageError(`${path} is there already`);
  try {
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, text, { flag: "wx" });
  } catch (error) {
    throw new UsageError(`${path}: ${errorText(error)}`);
  }
  console.log(visible(path));
}

/** Writes the files and names them. `file` is where, ending in .json. */
export function newCommand(what: "scenario" | "proposal", file: string): number {
  const id = basename(file, ".json");
  if (!file.endsWith(".json") || !ID.test(id)) {
    throw new UsageError(
      `${JSON.stringify(file)}: the file's name is the id and .json, for example my-case.json`,
    );
  }
  if (what === "proposal") {
    write(file, proposalText(id));
    return exitCodes.ok;
  }
  write(file, scenarioText(id));
  write(join(dirname(file), "kinds", `${id}.json`), kindsText(id));
  return exitCodes.ok;
}

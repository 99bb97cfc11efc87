/** The commands that `scripts/check-ends` interrupts, starves and deprives: every one, in a form that works over time. */
import { existsSync, mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";

export type Command = {
  readonly name: string;
  readonly args: readonly string[];
  /** Makes its inputs in the folder that it runs in. */
  readonly prepare?: (folder: string) => void;
  /** Names that it may leave in that folder. */
  readonly leaves: RegExp;
  /** Folders of these that it leaves empty. */
  readonly empties?: readonly string[];
  /** Ends by a signal only. */
  readonly isServer?: boolean;
  /** Needs /dev/kvm. */
  readonly needsKvm?: boolean;
  /** Takes longer than the part `stdio` has. */
  readonly isLong?: boolean;
};

const RECORD = "record.jsonl";
/** A command that is killed leaves FILE.partial, which the next one takes away (output-file.ts). */
const outputs = (...names: readonly string[]): RegExp =>
  new RegExp(`^(${names.map((name) => name.replaceAll(".", "\\.")).join("|")})(\\.partial)?$`);
const nothing = /^$/;

function places(folder: string): void {
  for (const name of ["source", "mounted"]) mkdirSync(join(folder, name));
}

/** A recorded run: made once, by a run of the model. */
let record = "";
export function setRecord(text: string): void {
  record = text;
}
const withRecord = (folder: string): void => writeFileSync(join(folder, RECORD), record);

const runs = ["load-after-truncate", "load-after-truncate-by-mount", "load-of-slow-page"];

const all: readonly Command[] = [
  {
    name: "run",
    args: ["run", ...runs, "-e", "process", "--json", "out.jsonl", "--junit", "out.xml"],
    leaves: outputs("out.jsonl", "out.xml"),
  },
  {
    name: "run, mmap-io",
    args: ["run", ...runs, "-e", "mmap-io", "--json", "out.jsonl"],
    leaves: outputs("out.jsonl"),
  },
  {
    name: "run, model",
    args: ["run", "load-*", "-e", "model", "--json", "out.jsonl"],
    leaves: outputs("out.jsonl"),
  },
  {
    name: "run, kvm",
    args: ["run", ...runs, "-e", "kvm", "--html", "out.html"],
    leaves: outputs("out.html"),
    needsKvm: true,
  },
  {
    name: "repro",
    args: ["repro", "load-of-slow-page", "-p", "native", "-e", "process", "--out", "bundle"],
    leaves: /^bundle$/,
  },
  {
    name: "compare",
    args: ["compare", "--engines", "model,process", "--json", "out.jsonl"],
    leaves: outputs("out.jsonl"),
    isLong: true,
  },
  {
    name: "compare, recorded",
    args: ["compare", RECORD],
    prepare: withRecord,
    leaves: outputs(RECORD),
  },
  {
    name: "report",
    args: ["report", RECORD, "--html", "out.html"],
    prepare: withRecord,
    leaves: outputs(RECORD, "out.html"),
  },
  { name: "guards", args: ["guards", "--way", "truncate"], leaves: nothing, needsKvm: true, isLong: true },
  {
    name: "bench guards",
    args: ["bench", "guards", "--rounds", "200"],
    leaves: nothing,
    needsKvm: true,
    isLong: true,
  },
  { name: "bench kvm", args: ["bench", "kvm", "--rounds", "3"], leaves: nothing, needsKvm: true },
  { name: "bench apf", args: ["bench", "apf", "--rounds", "1"], leaves: nothing, needsKvm: true },
  {
    name: "bench fence",
    args: ["bench", "fence", "--rounds", "50", "--races", "50"],
    leaves: nothing,
    needsKvm: true,
  },
  { name: "bench explore", args: ["bench", "explore"], leaves: nothing, isLong: true },
  {
    name: "bench fs",
    args: ["bench", "fs", "--folder", "sources", "--repetitions", "1", "--placement", "together"],
    // Below the folder, so that what it leaves there is seen.
    prepare: (folder) => mkdirSync(join(folder, "sources")),
    leaves: /^sources$/,
    empties: ["sources"],
    isLong: true,
  },
  { name: "explore", args: ["explore", "apf-loop"], leaves: nothing },
  { name: "explore --claims", args: ["explore", "--claims"], leaves: nothing, isLong: true },
  {
    name: "serve",
    args: ["serve", "source", "mounted"],
    prepare: places,
    leaves: /^(source|mounted)$/,
    isServer: true,
  },
  {
    name: "serve --background",
    args: ["serve", "source", "mounted", "--background"],
    prepare: places,
    leaves: /^(source|mounted)$/,
    isServer: true,
  },
  { name: "doctor", args: ["doctor", "--json", "out.jsonl"], leaves: outputs("out.jsonl") },
  { name: "list", args: ["list", "scenarios", "--json", "out.jsonl"], leaves: outputs("out.jsonl") },
  { name: "schema", args: ["schema"], leaves: nothing },
  { name: "new", args: ["new", "scenario", "mine.json"], leaves: /^(mine\.json|kinds)(\.partial)?$/ },
];

const hasKvm = existsSync("/dev/kvm");

/** Those that can run here. */
export const commands: readonly Command[] = all.filter(({ needsKvm }) => hasKvm || needsKvm !== true);
/** Those that cannot. */
export const absent: readonly string[] = all.flatMap((one) => (commands.includes(one) ? [] : [one.name]));

export const needsRecord = (command: Command): boolean => command.prepare === withRecord;
export const recordCommand: Command = {
  name: "record",
  args: ["run", "load-after-truncate*", "-e", "model", "--json", "out.jsonl"],
  leaves: outputs("out.jsonl"),
};

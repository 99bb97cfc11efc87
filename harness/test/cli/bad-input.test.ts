/**
 * Wrong files, one kind of wrong each: exit 64, with the file, the place in it, the value, and what is allowed. Read in this
 * process, by what the commands read with; that they exit with 64 is shown for one of each kind of file.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { parseScenarios } from "../../../language/src/read.ts";
import { readRuns } from "../../src/cli/report.ts";
import { openCatalogue } from "../../src/cli/selection.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { cli } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";
import { linesOf, recordedWith, resultWith } from "../support/results.ts";

type Changes = Readonly<Record<string, unknown>>;
/** Text or bytes of a file, or what makes it. */
type Content = string | Uint8Array | ((path: string) => void);
/** What the message must have: the place, the value, the limit. */
type Row = readonly [what: string, content: Content, ...parts: readonly string[]];

const victim = { in: "guest-task", steps: ["load 0x1000 8"] };
const scenario = (changes: Changes = {}): string =>
  JSON.stringify(
    {
      id: "mine",
      purpose: "x",
      backing: { size: "4MiB" },
      actors: { victim },
      witness: ["victim.load#1 is value"],
      properties: ["terminates"],
      ...changes,
    },
    null,
    2,
  );
const proposal = (changes: Changes = {}): string =>
  JSON.stringify(
    {
      id: "my-way",
      title: "x",
      kvm: "today",
      vmm: "stop",
      guest: "apf",
      server: "none",
      lapic: "kernel",
      ...changes,
    },
    null,
    2,
  );
const kinds = (rows: Changes, changes: Changes = {}): string =>
  JSON.stringify({ about: "x", rows, ...changes }, null, 2);
const steps = (...list: readonly string[]): Changes => ({ actors: { victim: { ...victim, steps: list } } });

const asFifo = (path: string): void => void execFileSync("mkfifo", [path]);
const asDevice = (path: string): void => symlinkSync("/dev/zero", path);
const asFolder = (path: string): void => mkdirSync(path);
const asMemory = (path: string): void => symlinkSync("/proc/self/mem", path);
const asLoop = (path: string): void => symlinkSync(path, path);
const asNothing = (): void => {};

function put(path: string, content: Content): void {
  if (typeof content === "function") content(path);
  else writeFileSync(path, content);
}

/** The message of the usage error. */
function refusal(read: () => unknown): string {
  try {
    read();
  } catch (error) {
    if (error instanceof UsageError) return error.message;
    throw error;
  }
  throw new Error("nothing was refused");
}

const scenarios: readonly Row[] = [
  ["syntax", '{\n  "id": "mine",\n  "purpose" "x"\n}', "wrong.json:3:13: not JSON: colon expected"],
  ["nothing", "", "wrong.json:1:1: not JSON"],
  ["line ends of Windows", '{\r\n  "id": "mine",,\r\n}', "wrong.json:2:16: not JSON: property name expected"],
  [
    "two members of one name",
    scenario().replace('"purpose"', '"id": "other",\n"purpose"'),
    "wrong.json:3: id: twice in this object",
  ],
  ["encoding", Buffer.from(scenario({ purpose: "\u00fc" }), "latin1"), "wrong.json:3: is no UTF-8"],
  ["UTF-16", Buffer.from(`\ufeff${scenario()}`, "utf16le"), "wrong.json:1: is UTF-16; write it in UTF-8"],
  ["type", scenario({ purpose: 5 }), "wrong.json:3: purpose", "a string is wanted", "5"],
  ["a list for an object", scenario({ backing: ["4MiB"] }), "wrong.json:4: backing", '["4MiB"]', "object"],
  [
    "unknown member",
    scenario({ backing: { size: "4MiB", knd: "tmpfs" } }),
    "wrong.json:4: backing",
    '"knd"',
    "kind",
  ],
  ["unknown word", scenario({ layout: "nvdim" }), "layout", '"nvdim"', "nearest: dax-window, nvdimm"],
  ["missing member", scenario({ actors: undefined }), "actors: an object is wanted (it is missing)"],
  ["a list for an object", scenario({ actors: [] }), "actors: an object is wanted, not []"],
  ["the name of an actor", scenario({ actors: { _v: victim } }), '"_v": an actor\'s name is a-z, 0-9 and -'],
  ["a negative CPU", scenario({ actors: { victim: { ...victim, cpu: -1 } } }), "cpu: at least 0, not -1"],
  ["no proposal", scenario({ proposals: [] }), "proposals: at least 1, not 0"],
  ["a long id", scenario({ id: "x".repeat(65) }), 'id: at most 64 characters, not the 65 of "xxx'],
  ["unknown verb", scenario(steps("lod 0x1000 8")), "actors.victim.steps[0]", '"lod"', "load"],
  ["out of range", scenario(steps("load 0x1000 9")), "actors.victim.steps[0]", "9", "16"],
  ["beyond the file", scenario(steps("load 0x400000 8")), "actors.victim.steps[0]", "0x400000"],
  [
    "too large a file for the window",
    scenario({ backing: { size: "65MiB" } }),
    "backing.size",
    "65 MiB",
    "64 MiB",
  ],
  ["cross-reference: a signal that nobody raises", scenario(steps("await cut")), "actors.victim", "cut"],
  [
    "cross-reference: a witness of nothing",
    scenario({ witness: ["victm.load#1 is value"] }),
    "witness[0]",
    "victm",
  ],
  ["unknown property", scenario({ properties: ["terminate"] }), "properties[0]", '"terminate"', "terminates"],
  ["unknown proposal", scenario({ proposals: ["aplop"] }), "proposals[0]", '"aplop"'],
  [
    "too many steps",
    scenario(steps(...Array.from({ length: 65 }, () => "load 0x1000 8"))),
    "actors.victim.steps",
    "64",
  ],
  [
    "an object as part of an id",
    scenario({ id: "{a}mine", each: { a: { x: { b: "c" }, y: { b: "d" } } } })
      .replace("{a}", "{a.b}")
      .replace('"c"', '{"d": 1}'),
    '{"d":1}mine',
  ],
  [
    "a dimension that is a list of objects",
    scenario({ each: { a: [{ b: "c" }] } }),
    "each.a",
    '"{\\"b\\":\\"c\\"}" becomes part of an id',
  ],
  [
    "too many expansions",
    scenario({ each: { a: Array.from({ length: 257 }, (_, index) => `v${index}`) } }),
    "each",
    "257",
    "256",
  ],
  ["too deep", `{"id": ${"[".repeat(100_000)}`, "wrong.json:1", "limit 32"],
  [
    "too deep inside each",
    scenario({ each: { a: { b: "DEEP" } } }).replace('"DEEP"', "[".repeat(3000) + "]".repeat(3000)),
    "limit 32",
  ],
  ["too long an id", scenario({ id: "x".repeat(65) }), "wrong.json:2: id", "64"],
  ["too large", scenario({ purpose: "x".repeat(300_000) }), "bytes are more than the limit 262144"],
  ["a directory", asFolder, "wrong.json: is a directory"],
  ["a FIFO", asFifo, "wrong.json: is a FIFO"],
  ["a device", asDevice, "wrong.json: is a device"],
  ["missing", asNothing, "wrong.json: there is no such file", "nearest: right.json"],
  ["unreadable", asMemory, "wrong.json: cannot be read: EIO"],
  ["a loop of links", asLoop, "wrong.json: cannot be read: ELOOP"],
];

describe("a wrong scenario file", () => {
  it.each(scenarios)("%s", (_what, content, ...parts) => {
    const folder = caseFolder();
    writeFileSync(join(folder, "right.json"), scenario());
    const path = join(folder, "wrong.json");
    put(path, content);
    const message = refusal(() => openCatalogue({}, [path]));
    expect(message).toContain(path);
    for (const part of parts) expect(message).toContain(part);
  });
});

const proposals: readonly Row[] = [
  ["syntax", '{ "id": }', "wrong.json:1:9: not JSON: value expected"],
  [
    "two members of one name",
    proposal().replace('"title"', '"id": "other",\n"title"'),
    "wrong.json:3: id: twice",
  ],
  ["encoding", Buffer.from(proposal({ title: "\u00fc" }), "latin1"), "wrong.json:3: is no UTF-8"],
  ["type", proposal({ title: true }), "wrong.json:3: title", "true", "string"],
  ["unknown member", proposal({ vmn: "stop" }), '"vmn"', "nearest: vmm"],
  ["unknown word", proposal({ vmm: "stopp" }), "wrong.json:5: vmm", '"stopp"', "nearest: stop"],
  ["missing member", proposal({ lapic: undefined }), "lapic", "missing"],
  ["in a list", `[${proposal()}, ${proposal({ kvm: "tody" })}]`, "[1].kvm", '"tody"', "today"],
  ["duplicate of a preset", proposal({ id: "apf-loop" }), 'two proposals are called "apf-loop"'],
  ["too deep", "[".repeat(40), "limit 32"],
  ["too large", proposal({ title: "x".repeat(300_000) }), "limit 262144"],
  ["too long", proposal({ title: "x".repeat(201) }), "title", "200"],
  ["a FIFO", asFifo, "is a FIFO"],
  ["a device", asDevice, "is a device"],
  ["missing", asNothing, "there is no such file"],
];

describe("a wrong file of proposals", () => {
  it.each(proposals)("%s", (_what, content, ...parts) => {
    const path = join(caseFolder(), "wrong.json");
    put(path, content);
    const message = refusal(() => openCatalogue({ proposals: [path] }));
    if (!parts.join().includes("two proposals")) expect(message).toContain(path);
    for (const part of parts) expect(message).toContain(part);
  });
});

const expectations: readonly Row[] = [
  ["syntax", '{ "about": "x" "rows": {} }', "wrong.json:1:16: not JSON: comma expected"],
  [
    "two rows of one name",
    kinds({ mine: "running" }).replace('"rows": {', '"rows": {\n"mine": "looping",'),
    "twice",
  ],
  ["type", kinds({ mine: 5 }), "rows.mine", "5"],
  ["unknown member", kinds({}, { rws: {} }), '"rws"', "rows"],
  ["unknown state", kinds({ mine: "loopng" }), "rows.mine", '"loopng"', "looping"],
  ["unknown word", kinds({ mine: "victim.last lots" }), "rows.mine", '"lots"', "lost"],
  ["unknown actor", kinds({ mine: "victm.last lost" }), '"victm"', "nearest: victim"],
  ["unknown label", kinds({ mine: "victim.load#2 lost" }), "load#2", "load#1"],
  ["unknown defect", kinds({ mine: "looping; defect: endless-lop" }), '"endless-lop"', "endless-loop"],
  ["two rows about one scenario", kinds({ "min*": "running", "*ine": "running" }), "min*", "*ine"],
  ["encoding", Buffer.from(kinds({}, { about: "\u00fc" }), "latin1"), "wrong.json:2: is no UTF-8"],
  ["too deep", "[".repeat(40), "limit 32"],
  ["too large", kinds({}, { about: "x".repeat(300_000) }), "limit 262144"],
  ["a FIFO", asFifo, "is a FIFO"],
];

describe("a wrong file of expectations", () => {
  it.each(expectations)("%s", (_what, content, ...parts) => {
    const folder = caseFolder();
    writeFileSync(join(folder, "mine.json"), scenario());
    mkdirSync(join(folder, "kinds"));
    const path = join(folder, "kinds", "wrong.json");
    put(path, content);
    const message = refusal(() => openCatalogue({ scenarios: [folder] }));
    expect(message).toContain(path);
    for (const part of parts) expect(message).toContain(part);
  });
});

const [recorded = {}] = parseScenarios(scenario(), "mine.json");

/** The lines of a right record, each changed by `edit`. */
function record(edit: (line: Changes) => Changes = (line) => line): string {
  return linesOf(recordedWith([resultWith({ scenario: recorded })]))
    .map((line) => `${JSON.stringify(edit(line as Changes))}\n`)
    .join("");
}
const inCase = (changes: Changes): string =>
  record((line) => (line.type === "case" ? { ...line, ...changes } : line));

const records: readonly Row[] = [
  ["syntax", `${record()}{"type":\n`, ":9: not JSON: value expected", '{\\"type\\":'],
  ["no record at all", "hello\n", "wrong.json:1:1: not JSON: invalid symbol", "hello"],
  ["nothing", "", "no run in it"],
  [
    "unknown type of line",
    record((line) => (line.type === "case" ? { ...line, type: "cse" } : line)),
    ": not a line of daxfault run",
    '"cse"',
  ],
  ["unknown member", inCase({ verdct: 1 }), "verdct"],
  ["type", inCase({ durationMs: "12" }), "durationMs", '"12"', "number"],
  ["unknown engine", inCase({ engine: "kvn" }), "engine", '"kvn"'],
  ["a counter of more than 64 bits", inCase({ counters: { a: `0x${"f".repeat(17)}` } }), "counters.a"],
  [
    "a number that no bigint can be",
    inCase({ counters: { a: `0x${"f".repeat(300_000_000 / 1000)}` } }),
    "counters.a",
  ],
  [
    "out of range",
    record((line) => (line.type === "run" ? { ...line, cases: 1.5 } : line)),
    "wrong.json:1",
    "cases",
    "1.5",
  ],
  ["a word that is none", record().replaceAll('"value(0x', '"vlue(0x'), "vlue(0x"],
  [
    "cross-reference: a case of no scenario",
    record((line) => (line.type === "case" ? { ...line, scenario: "other" } : line)),
    "scenario other",
  ],
  ["cross-reference: another hash", inCase({ scenarioHash: "000000000000" }), "000000000000"],
  ["order", record().split("\n").slice(1).join("\n"), "before the line of type run"],
  [
    "too deep",
    `{"type":"run","version":${"[".repeat(5000)}${"]".repeat(5000)}}\n`,
    "wrong.json:1",
    "limit 32",
  ],
  ["encoding", Buffer.concat([Buffer.from(record()), Buffer.from([0xff, 0x0a])]), "is no UTF-8"],
  ["a directory", asFolder, "is a directory"],
  ["a FIFO", asFifo, "is a FIFO"],
  ["a device", asDevice, "is a device"],
  ["missing", asNothing, "there is no such file"],
];

describe("a wrong record", () => {
  it("is none of these", () => {
    const path = join(caseFolder(), "right.json");
    writeFileSync(path, record());
    expect(readRuns(path)).toHaveLength(1);
  });

  it.each(records)("%s", (_what, content, ...parts) => {
    const path = join(caseFolder(), "wrong.json");
    put(path, content);
    const message = refusal(() => readRuns(path));
    expect(message).toContain(path);
    for (const part of parts) expect(message).toContain(part);
  });
});

describe("commands", () => {
  it.each([
    ["run", ["run", "wrong.json"]],
    ["run --proposals", ["run", "--proposals", "wrong.json"]],
    ["explore --scenario", ["explore", "--scenario", "wrong.json"]],
    ["report", ["report", "wrong.json"]],
    ["compare", ["compare", "wrong.json"]],
  ])("%s: 64 for a FIFO that nobody writes to", async (_what, args) => {
    const cwd = caseFolder();
    asFifo(join(cwd, "wrong.json"));
    expect(await cli(args, { cwd })).toMatchObject({
      code: 64,
      stdout: "",
      stderr: "daxfault: wrong.json: is a FIFO, not a regular file",
    });
  });
});

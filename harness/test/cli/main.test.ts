/** The command line from outside: what it prints, what it refuses, how it exits. */
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { cli, cliProcess, jsonLines } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

const steps = supportOf(thisMachine(), ["steps"]);
const note = steps.kind === "no" ? ` (skipped: ${steps.reason})` : "";

const plain = {
  id: "mine",
  purpose: "A scenario of the user's own.",
  backing: { size: "1MiB" },
  actors: {
    victim: { in: "guest-task", steps: ["load 0x1000 8", "signal touched", "await cut", "load 0x1000 8"] },
    host: { in: "host-process", steps: ["await touched", "truncate 0", "signal cut"] },
  },
  witness: ["victim.load#1 is value"],
  properties: ["terminates"],
};

function scenarioFile(changes: object): string {
  const path = join(caseFolder(), "mine.json");
  writeFileSync(path, JSON.stringify({ ...plain, ...changes }));
  return path;
}

describe("help", () => {
  it.each([[[]], [["run"]], [["list"]]])("is there for %j", async (command) => {
    const { code, stdout } = await cliProcess([...command, "--help"]);
    expect(code).toBe(0);
    expect(stdout).toContain("Usage: daxfault");
  });

  it.each([
    ["help", "Usage: daxfault [options] [command]"],
    ["help run", "Usage: daxfault run "],
    ["help bench fs", "Usage: daxfault bench fs "],
    ["bench help fs", "Usage: daxfault bench fs "],
    ["help help", "Usage: daxfault [options] [command]"],
  ])("%s is that command's", async (line, usage) => {
    const { code, stdout } = await cli(line.split(" "));
    expect(code).toBe(0);
    expect(stdout.trimStart().startsWith(usage), stdout).toBe(true);
  });

  it.each([
    ["help rnu", "unknown command 'rnu'\n(Did you mean run?)"],
    ["rnu --help", "unknown command 'rnu'\n(Did you mean run?)"],
    ["help frobnicate", "unknown command 'frobnicate'"],
    ["frobnicate -h", "unknown command 'frobnicate'"],
    ["bench fss --help", "unknown command 'fss'\n(Did you mean fs?)"],
    ["help bench fss", "unknown command 'fss'\n(Did you mean fs?)"],
  ])("%s is of no command: 64", async (line, message) => {
    const { code, stdout, stderr } = await cli(line.split(" "));
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toContain(message);
  });
});

describe("usage errors: exit 64, nothing run", () => {
  it.each([
    [["frobnicate"], "unknown command 'frobnicate'"],
    [["run", "--frobnicate"], "unknown option '--frobnicate'"],
    [["doctor", "x"], "too many arguments"],
    [["list"], "missing required argument"],
    [["run", "load-after-trunkate"], 'no scenario "load-after-trunkate"; nearest: load-after-truncate'],
    [["run", "--proposal", "apfloop"], 'no proposal "apfloop"'],
    [["run", "--engine", "qemu"], 'no engine "qemu"'],
    [
      ["run", "--engine", "kvm", "load-*"],
      '--engine "load-*" is a scenario: scenarios stand before the options',
    ],
    [["run", "--timeout", "0"], '--timeout "0" is not a whole number from 1 to 3600'],
    [["run", "hang-without-apf", "--proposal", "native"], "hang-without-apf is about apf-loop"],
    [["run", "missing.json"], "missing.json: there is no such file (ENOENT)"],
    [["run", "load-after-truncate", "--json", "/nowhere/x"], "--json /nowhere/x: ENOENT"],
    [["run", "--proposals", "\nnot ok 2"], "daxfault: \\nnot ok 2: there is no such file (ENOENT)"],
    [["run", "--kernel", `./${"x".repeat(300)}`], "ENAMETOOLONG"],
  ])("%j", async (args, message) => {
    const { code, stdout, stderr } = await cli(args);
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toContain(message);
  });

  it.each([
    ["a wrong verb", { actors: { victim: { in: "guest-task", steps: ["lod 0 8"] } } }, 'unknown verb "lod"'],
    [
      "a length of 2^64-1",
      { window: [{ file: 0, at: 0, length: "0xffffffffffffffff" }] },
      "length 0xffffffffffffffff is beyond the window's limit 64 MiB",
    ],
    ["an unaligned mapping", { window: [{ file: 0, at: 5, length: 4096 }] }, "0x5 is not a multiple of 4096"],
    ["a window overflow", { window: [{ file: 0, at: "64MiB", length: 4096 }] }, "limit 64 MiB"],
  ])("a scenario file with %s", async (_what, changes, message) => {
    const path = scenarioFile({ witness: [], ...changes });
    const { code, stdout, stderr } = await cli(["run", path]);
    expect({ code, stdout }).toEqual({ code: 64, stdout: "" });
    expect(stderr).toContain(path);
    expect(stderr).toContain(message);
  });
});

describe("a process of its own", () => {
  it.each([
    [["list", "engines"], 0],
    [["run", "load-after-truncate", "--engine", "model", "--list", "--json", "-"], 0],
    [["run", "load-after-trunkate"], 64],
    [["run", "--frobnicate"], 64],
  ])("says of %j what the one of many commands says", async (args, code) => {
    const result = await cliProcess(args);
    expect(result.code).toBe(code);
    expect(await cli(args)).toEqual(result);
  });
});

describe("list", () => {
  it.each([
    ["scenarios", "hang-without-apf"],
    ["proposals", "efault-exit"],
    ["engines", "process"],
    ["properties", "no-silent-data"],
  ])("%s, one line each, and as JSON lines", async (topic, id) => {
    const text = await cli(["list", topic]);
    const json = await cli(["list", topic, "--json", "-"]);
    expect([text.code, json.code]).toEqual([0, 0]);
    const records = jsonLines(json.stdout);
    expect(records.map((record) => record.id)).toContain(id);
    expect(text.stdout.split("\n")).toHaveLength(records.length);
    expect(text.stdout).toContain(`${id} `);
    // No escape sequences where the output is not a terminal.
    expect(text.stdout).not.toContain(String.fromCharCode(27));
  });
});

describe("schema", () => {
  it("is a JSON Schema of the lines of run", async () => {
    const { code, stdout } = await cli(["schema"]);
    expect(code).toBe(0);
    const schema = JSON.parse(stdout) as object;
    expect(() => new Ajv2020({ strict: false, validateFormats: false }).compile(schema)).not.toThrow();
  });
});

describe("doctor", () => {
  it.each([
    ["DAXFAULT_NO_KVM", "kvm", "kvm", "no"],
    ["DAXFAULT_NO_FUSE", "fuse", "process", "partly"],
    ["DAXFAULT_NO_ROOT", "root", "process", "partly"],
  ])("with %s=1 says what is missing, why, and what to do", async (name, feature, engine, runs) => {
    const env = { [name]: "1" };
    const path = join(caseFolder(), "doctor.jsonl");
    const { stdout } = await cli(["doctor", "--json", path], { env });
    expect(stdout).toMatch(new RegExp(`${feature} +missing +${name}=1 says so`));
    expect(stdout).toContain(`do:    unset ${name}`);
    const records = jsonLines(readFileSync(path, "utf8"));
    expect(records.find(({ type, name: what }) => type === "feature" && what === feature)).toMatchObject({
      kind: "missing",
    });
    const state = records.find(({ type, engine: which }) => type === "engine" && which === engine)?.runs;
    expect(["no", runs]).toContain(state);
  });
});

const everythingMissing = { DAXFAULT_NO_KVM: "1", DAXFAULT_NO_FUSE: "1", DAXFAULT_NO_ROOT: "1" };

describe("run without what it needs", () => {
  it("skips with reasons, and exits 3 if nothing is left", async () => {
    const { code, stdout } = await cli(["run", "load-after-truncate", "--engine", "kvm"], {
      env: everythingMissing,
    });
    expect(code).toBe(3);
    expect(stdout).toContain("Nothing ran.");
    expect(stdout).toMatch(/^ +[0-9]+ +kvm: DAXFAULT_NO_KVM=1 says so$/m);
    expect(stdout).toContain("fix: unset DAXFAULT_NO_KVM");
    expect(stdout).toContain("Exit code 3: nothing ran");
  });
});

describe.skipIf(steps.kind === "no")(`run with the engine process${note}`, () => {
  it("skips what it cannot, runs the rest, and exits 0 if that is as expected", async () => {
    const scenarios = ["load-after-truncate", "load-from-full-tmpfs", "load-after-truncate-by-mount"];
    const args = ["run", ...scenarios, "--engine", "process", "kvm"];
    const { code, stdout, stderr } = await cli(args, { env: everythingMissing });
    expect(code).toBe(0);
    expect(stdout).toMatch(/load-after-truncate +✓ SIGBUS/);
    expect(stdout).toContain("1  fuse: DAXFAULT_NO_FUSE=1 says so");
    expect(stdout).toContain("1  root: DAXFAULT_NO_ROOT=1 says so");
    // The scorecard is for who asks for all.
    expect(stdout).not.toContain("Scorecard");
    const whole = await cli([...args, "--verbose"], { env: everythingMissing });
    expect(whole.stdout).toMatch(/^native {2}✓ /m);
    // Progress is for terminals.
    expect(stderr).toBe("");
  });

  it("writes JSON lines that follow the schema, to a file or alone to standard output", async () => {
    const { stdout: schema } = await cli(["schema"]);
    const validate = new Ajv2020({ strict: false, validateFormats: false }).compile(JSON.parse(schema));
    const file = join(caseFolder(), "run.jsonl");
    const args = ["run", "load-after-regrow", "store-after-truncate", "--engine", "process", "--json"];
    const [toFile, toStdout] = [await cli([...args, file]), await cli([...args, "-"])];
    expect([toFile.code, toStdout.code]).toEqual([0, 0]);
    expect(toFile.stdout).toContain("scenario");
    for (const records of [jsonLines(readFileSync(file, "utf8")), jsonLines(toStdout.stdout)]) {
      for (const record of records) {
        validate(record);
        expect(validate.errors, JSON.stringify(record)).toBeNull();
      }
      const types = records.map(({ type }) => type);
      expect([types[0], types.at(-1)]).toEqual(["run", "summary"]);
      const cases = records.filter(({ type }) => type === "case");
      expect(cases.map(({ scenario }) => scenario).sort()).toEqual([
        "load-after-regrow",
        "store-after-truncate",
      ]);
      expect(records.at(-1)).toMatchObject({ exitCode: 0, counts: { pass: 2, fail: 0 }, interrupted: false });
    }
  });

  it("runs a file of the user's own, shows what it saw, and does not call it a pass", async () => {
    const path = scenarioFile({});
    const { code, stdout } = await cli(["run", path, "--engine", "process"]);
    expect(code).toBe(2);
    expect(stdout).toMatch(/mine +\? SIGBUS/);
    expect(stdout).toContain("inconclusive (vacuous): mine x native x process");
    expect(stdout).toContain(`replay: daxfault run ${path} --proposal native --engine process`);
  });

  it("calls a case that does not end in time a time-out", async () => {
    const victim = { in: "guest-task", steps: ["load 0 8", "await cut", "signal touched"] };
    const path = scenarioFile({ actors: { victim, host: plain.actors.host } });
    const { code, stdout } = await cli(["run", path, "--engine", "process", "--timeout", "6"]);
    expect(code).toBe(2);
    expect(stdout).toContain("? timeout");
    expect(stdout).toContain("not done after 5000 ms (waits for a signal?): victim");
  });
});

/** `daxfault repro` from outside: the story, and a bundle that runs again. */
import { execFileSync, spawnSync } from "node:child_process";
import { existsSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { builtPath } from "../../src/paths.ts";
import { cli } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

const kvm = supportOf(thisMachine(), ["kvm", "micro-guest"]);
const note = kvm.kind === "no" ? ` (skipped: ${kvm.reason})` : "";
const files = [
  "environment.json",
  "evidence.jsonl",
  "report.html",
  "report.txt",
  "repro.sh",
  "scenario.json",
  "trace.txt",
];

/** How repro.sh is told to call daxfault. */
const DAXFAULT = `${process.execPath} ${builtPath("harness/src/cli/main.ts")}`;

describe("daxfault repro", () => {
  it("tells a case of the model, and leaves a bundle that runs again", async () => {
    const folder = join(caseFolder(), "bundle");
    const { code, stdout } = await cli([
      "repro",
      "load-after-truncate",
      "--engine",
      "model",
      "-p",
      "apf-loop",
      "--out",
      folder,
    ]);
    expect(code).toBe(0);
    expect(stdout).toMatch(/^load-after-truncate x apf-loop x model\n/);
    expect(stdout).toMatch(/step \d+ +host +truncate: truncate to 0 pages/);
    expect(stdout).toContain("No reproducer.c: engine model runs no KVM.");
    expect(readdirSync(folder).sort()).toEqual(files);
    expect(readFileSync(join(folder, "trace.txt"), "utf8")).toContain(
      "# No tracepoints: engine model runs no KVM.",
    );
    const again = execFileSync(join(folder, "repro.sh"), ["--json", "-"], {
      encoding: "utf8",
      env: { ...process.env, DAXFAULT },
    });
    const hashes = [readFileSync(join(folder, "evidence.jsonl"), "utf8"), again].map(
      (text) => /"scenarioHash":"([0-9a-f]+)"/.exec(text)?.[1],
    );
    expect(hashes[1]).toBe(hashes[0]);
    const lost = spawnSync(join(folder, "repro.sh"), { env: { ...process.env, DAXFAULT: "/nowhere/x run" } });
    expect([lost.status, String(lost.stderr)]).toEqual([
      127,
      expect.stringContaining("/nowhere/x is not found; set DAXFAULT"),
    ]);
    expect(again).toContain('"kind":"pass"');
    // An earlier bundle is replaced; a folder of something else is not touched.
    expect((await cli(["repro", "load-after-truncate", "-e", "model", "--out", folder])).code).toBe(0);
    const other = caseFolder();
    writeFileSync(join(other, "mine"), "x");
    const refused = await cli(["repro", "load-after-truncate", "--out", other]);
    expect(refused).toMatchObject({ code: 64, stderr: expect.stringContaining("it is not empty") });
    expect(readdirSync(other)).toEqual(["mine"]);
  });

  it.each([
    [["repro", "nosuch"], 'no scenario "nosuch"'],
    [["repro", "load-*"], "name one"],
    [["repro"], "missing required argument"],
    [["repro", "hang-without-apf", "--engine", "process"], "no case of it can run here"],
  ])("refuses %j", async (args, message) => {
    const { code, stderr } = await cli(args);
    expect(stderr).toContain(message);
    expect(code).toBe(64);
  });
});

describe.skipIf(kvm.kind === "no")(`daxfault repro of the hang${note}`, () => {
  it("tells it while it happens, with KVM's tracepoints where they can be had, and leaves no tracing behind", async () => {
    const folder = join(caseFolder(), "bundle");
    const { code, stdout } = await cli(["repro", "hang-without-apf", "--out", folder]);
    expect(code).toBe(0);
    expect(stdout).toContain("hang-without-apf x apf-loop x kvm");
    expect(stdout).toMatch(/ms +host +truncate: to 0 bytes\n(?:.*\n)*.*VMM: looping/);
    expect(stdout).toContain("gcc -O2 -Wall -Wextra -o reproducer");
    expect(existsSync(join(folder, "reproducer.c"))).toBe(true);
    const trace = readFileSync(join(folder, "trace.txt"), "utf8");
    if (/^# Tracepoints/m.test(trace)) expect(trace).toContain("kvm_async_pf_not_present");
    else expect(trace).toMatch(/^# No tracepoints: .+/m);
    expect(trace).toMatch(/^pf_taken=\d+$/m);
    const environment = JSON.parse(readFileSync(join(folder, "environment.json"), "utf8"));
    expect(environment).toMatchObject({ kvm: { backend: thisMachine().kvmBackend } });
    const instances = "/sys/kernel/tracing/instances";
    const left = existsSync(instances)
      ? readdirSync(instances).filter((name) => name.startsWith("daxfault-"))
      : [];
    expect(left).toEqual([]);
    const mail = readFileSync(join(folder, "report.txt"), "utf8");
    expect(mail).toContain("QEMU:");
    expect(mail).toContain("endless-loop");
  });
});

/** What a run keeps of itself, and `daxfault report` without a FILE. */
import { existsSync, mkdirSync, readdirSync, readFileSync, symlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, describe, expect, it, vi } from "vitest";
import { keepLastRun, lastRunPath } from "../../src/cli/last-run.ts";
import { cli } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

afterEach(() => {
  vi.unstubAllEnvs();
});

function stateIn(): string {
  const state = caseFolder();
  vi.stubEnv("XDG_STATE_HOME", state);
  return join(state, "daxfault");
}

describe("keepLastRun", () => {
  it("replaces the run before, and leaves nothing else", () => {
    const folder = stateIn();
    expect(keepLastRun([{ type: "a" }, { type: "b" }])).toBe(join(folder, "last-run.jsonl"));
    expect(keepLastRun([{ type: "c" }])).toBe(lastRunPath());
    expect(readFileSync(lastRunPath(), "utf8")).toBe('{"type":"c"}\n');
    expect(readdirSync(folder)).toEqual(["last-run.jsonl"]);
  });

  it("takes away what a killed run has left, and not what another one writes now", () => {
    const folder = stateIn();
    mkdirSync(folder, { recursive: true });
    // No process has a number beyond the kernel's largest, 2^22.
    writeFileSync(join(folder, "last-run.4194305.partial"), "");
    writeFileSync(join(folder, "last-run.1.partial"), "");
    keepLastRun([]);
    expect(readdirSync(folder).sort()).toEqual(["last-run.1.partial", "last-run.jsonl"]);
  });

  it("replaces a link, and does not follow it", () => {
    const folder = stateIn();
    mkdirSync(folder, { recursive: true });
    const other = join(caseFolder(), "other");
    writeFileSync(other, "mine");
    symlinkSync(other, lastRunPath());
    keepLastRun([{ type: "a" }]);
    expect(readFileSync(other, "utf8")).toBe("mine");
    expect(readFileSync(lastRunPath(), "utf8")).toContain('"a"');
  });

  it("is no error where the folder cannot be written", () => {
    const state = caseFolder();
    writeFileSync(join(state, "daxfault"), "a file");
    vi.stubEnv("XDG_STATE_HOME", state);
    expect(keepLastRun([{ type: "a" }])).toBeNull();
    expect(readdirSync(state)).toEqual(["daxfault"]);
  });

  it("takes no relative path for the folder, as XDG has it", () => {
    vi.stubEnv("XDG_STATE_HOME", "state");
    vi.stubEnv("HOME", "/nowhere");
    expect(lastRunPath()).toBe("/nowhere/.local/state/daxfault/last-run.jsonl");
  });
});

const oneCase = ["run", "load-after-truncate", "--engine", "model", "--proposal", "apf-loop"];

describe("daxfault report without a FILE", () => {
  it("has all of the last run", async () => {
    const state = caseFolder();
    const env = { XDG_STATE_HOME: state };
    const none = await cli(["report"], { env });
    expect([none.code, none.stdout]).toEqual([64, ""]);
    expect(none.stderr).toContain(join(state, "daxfault", "last-run.jsonl"));
    expect(none.stderr).toContain("no run yet: daxfault run");
    const ran = await cli(["run", "load-after-truncate", "--engine", "model", "--proposal", "apf-loop"], {
      env,
    });
    expect(ran.code).toBe(0);
    expect(ran.stdout).toContain("the scorecard: daxfault report; for a browser: --html FILE");
    expect(ran.stdout).toContain(`Recorded in ${state}/daxfault/last-run.jsonl.`);
    expect(ran.stdout).not.toContain("Scorecard");
    const { code, stdout } = await cli(["report"], { env });
    expect(code).toBe(0);
    expect(stdout).toContain("Scorecard");
    expect(stdout).toContain("load-after-truncate");
  });

  it("is told of the run's own file", async () => {
    const file = join(caseFolder(), "run.jsonl");
    const own = await cli([...oneCase, "--json", file]);
    expect(own.stdout).toContain(`the scorecard: daxfault report ${file};`);
    expect(existsSync(file)).toBe(true);
  });

  it("is told of another way where nothing can be kept", async () => {
    const { code, stdout } = await cli(oneCase, { env: { XDG_STATE_HOME: "/proc/nowhere" } });
    expect(code).toBe(0);
    expect(stdout).toContain("All cases and the scorecard: daxfault run --verbose");
  });
});

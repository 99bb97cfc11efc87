import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { loadObserved, ObservedError, readObserved } from "../../src/compare/observed.ts";
import { caseFolder } from "../support/folders.ts";

const words = { steps: { "victim.load#1": "value" }, bystanders: {}, vmm: "running", guestKernel: "alive" };
const one = {
  scenario: "a",
  scenarioHash: "0123456789ab",
  proposal: "p",
  engine: "kvm",
  kvmBackend: null,
  words,
};

describe("readObserved", () => {
  const read = (text: string) => {
    const path = join(caseFolder(), "observed.json");
    writeFileSync(path, text);
    return () => readObserved(path);
  };

  it("reads every file of the package", () => {
    expect(loadObserved().size).toBeGreaterThan(4);
  });

  it("returns what is right", () => {
    expect(read(JSON.stringify({ about: "x", cases: [one] }))()).toEqual({ about: "x", cases: [one] });
  });

  it.each([
    ["no JSON", "{", "observed.json:1:2: not JSON"],
    [
      "a word of another type",
      JSON.stringify({ about: "x", cases: [{ ...one, words: { ...words, vmm: 5 } }] }),
      "vmm",
    ],
    ["an unknown member", JSON.stringify({ about: "x", cases: [{ ...one, engin: 1 }] }), "nearest: engine"],
    ["a member twice", '{\n"about": "x",\n"about": "y", "cases": []}', "observed.json:3: about: twice"],
    ["null", "null", "observed.json:1"],
    ["too deep", "[".repeat(5000), "limit 32"],
  ])("refuses %s with its line", (_what, text, reason) => {
    expect(read(text)).toThrow(ObservedError);
    expect(read(text)).toThrow(reason);
  });

  it("refuses a folder", () => {
    const path = join(caseFolder(), "observed.json");
    mkdirSync(path);
    expect(() => readObserved(path)).toThrow(`${path}: is a directory, not a regular file`);
  });
});

import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { loadDocumented, loadErrata, loadExpectations } from "../../src/judge/expectation-file.ts";
import { KindsError } from "../../src/judge/expectations.ts";
import { NAMES_MAX, ROWS_MAX } from "../../src/scenario/limits.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

function written(text: string): string {
  const path = join(folder, "file.json");
  writeFileSync(path, text);
  return path;
}

const erratum = {
  id: "an-erratum",
  reason: "x",
  when: { kvmBackend: "kvm_pvm" },
  scenarios: ["*"],
  engine: "kvm",
  outcomes: [{ vmm: ["running"] }],
  link: "https://example.org/",
  owner: "x",
};

describe("data of the package", () => {
  it("is read where it is right", () => {
    expect(loadErrata(written(JSON.stringify({ about: "x", errata: [erratum] })))).toHaveLength(1);
    expect(loadDocumented(written('{ "about": "x", "cells": [] }'))).toEqual([]);
  });

  it.each([
    ["no JSON", "{", "file.json:1:2: not JSON"],
    ["too deep", "[".repeat(5000), "limit 32"],
    ["a member twice", '{ "about": "x",\n"about": "y", "errata": [] }', "file.json:2: about: twice"],
    [
      "an unknown member",
      JSON.stringify({ about: "x", errata: [{ ...erratum, ownr: "x" }] }),
      "nearest: owner",
    ],
    [
      "a wrong type",
      JSON.stringify({ about: "x", errata: [{ ...erratum, scenarios: 5 }] }),
      "errata[0].scenarios",
    ],
  ])("%s is refused with line and member", (_what, text, reason) => {
    const load = () => loadErrata(written(text));
    expect(load).toThrow(KindsError);
    expect(load).toThrow(reason);
  });

  it("names the nearest word", () => {
    const cell = { proposal: "a", property: "b", says: "yess", source: "x" };
    const load = () => loadDocumented(written(JSON.stringify({ about: "x", cells: [cell] })));
    expect(load).toThrow(KindsError);
    expect(load).toThrow("nearest: yes, no");
  });
});

describe("limits of a file of expectations", () => {
  const own = join(folder, "kinds");
  mkdirSync(own);
  const load = (rows: Readonly<Record<string, string>>) => () => {
    writeFileSync(join(own, "kinds.json"), JSON.stringify({ about: "x", rows }));
    return loadExpectations(own).rows.length;
  };
  const rowsOf = (count: number) =>
    Object.fromEntries(Array.from({ length: count }, (_, index) => [`mine-${index}`, "victim.last value"]));

  it("rows", () => {
    expect(load(rowsOf(ROWS_MAX))()).toBe(ROWS_MAX);
    expect(load(rowsOf(ROWS_MAX + 1))).toThrow(`${ROWS_MAX + 1} rows are more than the limit ${ROWS_MAX}`);
  });

  it("names of a row", () => {
    const names = (count: number) => Array.from({ length: count }, (_, index) => `mine-${index}`).join(" ");
    expect(load({ [names(NAMES_MAX)]: "victim.last value" })()).toBe(1);
    expect(load({ [names(NAMES_MAX + 1)]: "victim.last value" })).toThrow(`more than the limit ${NAMES_MAX}`);
  });
});

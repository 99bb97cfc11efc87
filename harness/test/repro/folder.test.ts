/** Where a bundle may be put: nothing of others is overwritten, no link is followed, and it comes about as a whole. */
import { spawnSync } from "node:child_process";
import {
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { basename, dirname, join } from "node:path";
import { describe, expect, it } from "vitest";
import { runRecord } from "../../src/report/jsonl.ts";
import { BundleError, type BundleFile, BundleFolder } from "../../src/repro/folder.ts";
import { caseFolder } from "../support/folders.ts";
import { infoWith } from "../support/results.ts";

const evidence: BundleFile = {
  name: "evidence.jsonl",
  text: `${JSON.stringify(runRecord(infoWith()))}\n{}\n`,
};
const files: readonly BundleFile[] = [evidence, { name: "repro.sh", text: "#!/bin/sh\n" }];

function fill(folder: string, list = files): void {
  const bundle = new BundleFolder(folder);
  try {
    bundle.commit(list);
  } finally {
    bundle.discard();
  }
}

/** Names beside the folder: nothing else may be left there. */
const beside = (folder: string): readonly string[] => readdirSync(dirname(folder));

describe("BundleFolder", () => {
  it("makes the folder, with its parents, and a script that can be executed", () => {
    const folder = join(caseFolder(), "deep/er/bundle");
    fill(folder);
    expect(readdirSync(folder).sort()).toEqual(["evidence.jsonl", "repro.sh"]);
    expect(statSync(join(folder, "repro.sh")).mode & 0o100).toBe(0o100);
    expect(beside(folder)).toEqual(["bundle"]);
  });

  it("replaces an empty folder, and an earlier bundle with all its files", () => {
    const folder = join(caseFolder(), "bundle");
    mkdirSync(folder);
    fill(folder, [...files, { name: "console.txt", text: "earlier" }]);
    expect(readdirSync(folder)).toHaveLength(3);
    fill(`${folder}/`);
    expect(readdirSync(folder).sort()).toEqual(["evidence.jsonl", "repro.sh"]);
    expect(beside(folder)).toEqual(["bundle"]);
  });

  /** The id of a process that has ended. */
  const deadPid = (): number => spawnSync("true").pid;

  it("takes away what a process that was killed has left, and nothing of a living one or of others", () => {
    const folder = join(caseFolder(), "bundle");
    const left = `${folder}.partial-${deadPid()}`;
    const kept = [`${folder}.partial-1`, `${folder}.partial-${deadPid()}`, `${folder}.partial-x`];
    for (const path of [left, ...kept]) mkdirSync(path);
    writeFileSync(join(left, "repro.sh"), "");
    // Alive; with a foreign file; no pid.
    writeFileSync(join(kept[1] ?? "", "mine.txt"), "");
    new BundleFolder(folder).discard();
    expect(beside(folder).toSorted()).toEqual(kept.map((path) => basename(path)).toSorted());
  });

  it("puts an earlier bundle back that a process that was killed had moved", () => {
    const folder = join(caseFolder(), "bundle");
    fill(folder);
    renameSync(folder, `${folder}.earlier-${deadPid()}`);
    new BundleFolder(folder).discard();
    expect(beside(folder)).toEqual(["bundle"]);
    expect(readdirSync(folder).sort()).toEqual(["evidence.jsonl", "repro.sh"]);
  });

  it("is not there while the case runs", () => {
    const folder = join(caseFolder(), "bundle");
    const bundle = new BundleFolder(folder);
    expect(beside(folder)).toEqual([]);
    bundle.discard();
  });

  it("leaves nothing when it is not filled", () => {
    const folder = join(caseFolder(), "bundle");
    new BundleFolder(folder).discard();
    expect(beside(folder)).toEqual([]);
  });

  const empty = (folder: string): void => writeFileSync(join(folder, "evidence.jsonl"), "");
  const real = (folder: string): void => writeFileSync(join(folder, "evidence.jsonl"), evidence.text);
  it.each<[string, RegExp, (folder: string, other: string) => void]>([
    ["an empty evidence.jsonl", /no evidence\.jsonl of a recorded run/, empty],
    [
      "an evidence.jsonl of something else",
      /no evidence\.jsonl of a recorded run/,
      (folder) => writeFileSync(join(folder, "evidence.jsonl"), '{"type":"run"}\n'),
    ],
    [
      "another file beside it",
      /mine is no file of one/,
      (folder) => {
        real(folder);
        writeFileSync(join(folder, "mine"), "x");
      },
    ],
    [
      "a planted link in it",
      /report\.txt is no file/,
      (folder, other) => {
        real(folder);
        symlinkSync(other, join(folder, "report.txt"));
      },
    ],
    [
      "evidence.jsonl a link",
      /evidence\.jsonl is no file/,
      (folder, other) => symlinkSync(other, join(folder, "evidence.jsonl")),
    ],
    ["a folder in it", /no file/, (folder) => mkdirSync(join(folder, "repro.sh"))],
  ])("refuses a folder with %s, and touches nothing", (_what, message, plant) => {
    const parent = caseFolder();
    const folder = join(parent, "bundle");
    const other = join(parent, "other");
    writeFileSync(other, evidence.text);
    mkdirSync(folder);
    plant(folder, other);
    const before = readdirSync(folder);
    expect(() => fill(folder)).toThrow(BundleError);
    expect(() => fill(folder)).toThrow(message);
    expect(readdirSync(folder)).toEqual(before);
    expect(readFileSync(other, "utf8")).toBe(evidence.text);
    expect([...beside(folder)].sort()).toEqual(["bundle", "other"]);
  });

  it("refuses a link, a file, and what came about meanwhile", () => {
    const parent = caseFolder();
    const target = join(parent, "target");
    mkdirSync(target);
    const link = join(parent, "link");
    symlinkSync(target, link);
    expect(() => fill(link)).toThrow(`${link}: it is a link`);
    const file = join(parent, "file");
    writeFileSync(file, "x");
    expect(() => fill(file)).toThrow("it is no folder");
    const folder = join(parent, "bundle");
    const bundle = new BundleFolder(folder);
    symlinkSync(target, folder);
    expect(() => bundle.commit(files)).toThrow("it is a link");
    bundle.discard();
    expect(readdirSync(target)).toEqual([]);
    expect([...beside(folder)].sort()).toEqual([basename(folder), "file", "link", "target"]);
  });

  it("refuses the working directory", () => {
    expect(() => fill(".")).toThrow(".: it is the working directory");
  });
});

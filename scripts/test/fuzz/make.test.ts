import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { type FuzzEntry, type FuzzInput, fileEntry } from "../../fuzz/input.ts";
import { dictionaryOf, mutatedTree, sizeOf, textOf, treeOf } from "../../fuzz/json.ts";
import { changeProblems, Place } from "../../fuzz/place.ts";
import { Random } from "../../fuzz/random.ts";
import { commandsOf } from "../../fuzz/seeds.ts";
import { shrink, signatureOf } from "../../fuzz/shrink.ts";

const root = mkdtempSync(join(tmpdir(), "daxfault-test-"));
afterAll(() => rmSync(root, { recursive: true, force: true }));

describe("an input", () => {
  it("depends on seed and number alone", () => {
    const value = { a: [1, "load 0x1000 8", { b: null }], c: "d" };
    const made = (seed: number, index: number): string =>
      textOf(mutatedTree(Random.of(seed, index), treeOf(value), dictionaryOf([value])));
    const many = Array.from({ length: 200 }, (_, index) => made(7, index));
    expect(many).toEqual(Array.from({ length: 200 }, (_, index) => made(7, index)));
    expect(new Set(many).size).toBeGreaterThan(100);
    expect(many).not.toEqual(Array.from({ length: 200 }, (_, index) => made(8, index)));
  });

  it("is the seed where nothing is changed", () => {
    const tree = treeOf({ a: [1, { b: "x" }] });
    expect(JSON.parse(textOf(tree))).toEqual({ a: [1, { b: "x" }] });
    expect(sizeOf(tree)).toBe(5);
  });
});

describe("commandsOf", () => {
  it("has every command of the reference, with its options", () => {
    const commands = commandsOf(readFileSync("docs/reference.md", "utf8"));
    const run = commands.find(({ name }) => name === "run");
    expect(commands.map(({ name }) => name)).toContain("bench guards");
    expect(run?.options).toContainEqual({ name: "--list", takesValue: false });
    expect(run?.options).toContainEqual({ name: "--proposal", takesValue: true });
  });
});

describe("Place", () => {
  it("tells what changed that may not", () => {
    const place = new Place(root);
    place.fill([fileEntry("in.json", "{}"), fileEntry("gone.json", "{}")]);
    const before = place.listing();
    writeFileSync(join(place.folder, "in.json"), "changed");
    writeFileSync(join(place.folder, "out.json"), "named");
    writeFileSync(join(root, "outside/planted"), "x");
    rmSync(join(place.folder, "gone.json"));
    const after = place.listing();
    const problems = changeProblems(before, after, { outputs: ["out.json"], isRefused: false });
    expect(problems.join("\n")).toMatch(
      /case\/in\.json was changed\noutside\/planted was written .*\ncase\/gone\.json was taken away/,
    );
    expect(changeProblems(before, after, { outputs: ["out.json"], isRefused: true })).toHaveLength(4);
  });
});

describe("Place without a look at the disk", () => {
  const entries: readonly FuzzEntry[] = [
    fileEntry("mine/deep/a.json", "{}"),
    { path: "mine/link", kind: "link", to: "../outside/secret.json" },
    { path: "empty", kind: "folder" },
    { path: "mine/pipe", kind: "fifo" },
    { path: "other/pipe", kind: "fifo" },
    fileEntry("mine/deep/a.json", "the first of two in one place stays"),
  ];

  it("expects what it lists right after it was filled", () => {
    const place = new Place(mkdtempSync(join(root, "expected-")));
    place.fill([fileEntry("gone.json", "")]);
    place.fill(entries);
    expect([...place.expected()].sort()).toEqual([...place.listing()].sort());
    expect(place.isOtherwise()).toBe(false);
  });

  it("sees another name in the working directory, and one that has gone", () => {
    const place = new Place(mkdtempSync(join(root, "names-")));
    place.fill(entries);
    writeFileSync(join(place.folder, "new"), "");
    expect(place.isOtherwise()).toBe(true);
    rmSync(join(place.folder, "new"));
    rmSync(join(place.folder, "empty"), { recursive: true });
    expect(place.isOtherwise()).toBe(true);
  });
});

describe("shrink", () => {
  it("leaves what breaks the promise, and little else", async () => {
    const lines = Array.from({ length: 50 }, (_, index) =>
      JSON.stringify({ type: "x", index, more: [1, 2] }),
    );
    const input: FuzzInput = {
      kind: "record",
      isProcess: false,
      entries: [
        fileEntry("other", "x"),
        fileEntry("run.jsonl", [...lines, '{"bad":{"deep":"word"}}'].join("\n")),
      ],
      call: { kind: "command", argv: ["report", "run.jsonl", "--html", "x"], outputs: [] },
    };
    const textIn = ({ entries }: FuzzInput): string =>
      entries
        .map((entry) => (entry.kind === "file" ? Buffer.from(entry.base64, "base64").toString() : ""))
        .join("");
    const smaller = await shrink(
      input,
      async (one) => textIn(one).includes("word") && one.call.argv.includes("report"),
    );
    expect(smaller.entries).toHaveLength(1);
    expect(JSON.parse(textIn(smaller))).toEqual({ bad: { deep: "word" } });
    expect(smaller.call.argv).toEqual(["report"]);
  });

  it("takes two findings for one that differ in names and numbers only", () => {
    const one = signatureOf('exit code 70: Error: "a" is 5\n    at f (file:///x/main.js?12:3:4)');
    expect(signatureOf('exit code 70: Error: "b" is 17\n    at f (file:///x/main.js?99:3:4)')).toBe(one);
    expect(signatureOf('exit code 70: Error: "b" is 17\n    at g (file:///x/main.js?99:3:4)')).not.toBe(one);
  });
});

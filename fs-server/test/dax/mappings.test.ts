import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import fc from "fast-check";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { DaxMappings } from "../../src/dax/mappings.ts";
import { RecordingWindow } from "../../src/dax/recording.ts";
import { failure } from "../../src/fs/errors.ts";
import type { NodeId } from "../../src/fs/filesystem.ts";
import { ROOT_NODE } from "../../src/fs/filesystem.ts";
import { componentName } from "../../src/fs/names.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

const MIB = 1024n * 1024n;
const RANGE = 2n * MIB;
const READ = { fileOffset: 0n, lengthBytes: RANGE, windowOffset: 0n, writable: false };

let fs: PassthroughFileSystem;
let window: RecordingWindow;
let dax: DaxMappings;
let node: NodeId;
let other: NodeId;

beforeEach(() => {
  const source = temporaryDirectory();
  writeFileSync(join(source, "file"), "x".repeat(100));
  writeFileSync(join(source, "other"), "y");
  mkdirSync(join(source, "folder"));
  fs = new PassthroughFileSystem(source);
  window = new RecordingWindow(8n * MIB);
  dax = new DaxMappings(fs, window);
  node = fs.lookup(ROOT_NODE, componentName("file")).node;
  other = fs.lookup(ROOT_NODE, componentName("other")).node;
});

afterEach(() => fs.close());

describe("SETUPMAPPING", () => {
  it("maps 2 MiB by node id whatever the file's size, and lets go of the descriptor", () => {
    dax.setup({ ...READ, node });
    expect(window.calls).toEqual([
      { kind: "map", offsetBytes: 0n, lengthBytes: RANGE, fileOffset: 0n, writable: false },
    ]);
    expect(fs.usage().handles).toBe(0);
  });

  it("upgrades to writable by asking again for the same window offset", () => {
    dax.setup({ ...READ, node });
    dax.setup({ ...READ, node, writable: true });
    expect(window.calls.map((call) => call.kind === "map" && call.writable)).toEqual([false, true]);
    expect(dax.list()).toHaveLength(1);
    dax.setup({ ...READ, node });
    expect(dax.list()[0]?.writable).toBe(true);
    expect(window.calls).toHaveLength(2);
  });

  it.each([
    ["another file at the same place", () => ({ ...READ, node: other }), "EEXIST"],
    ["a range that overlaps by a page", () => ({ ...READ, node, windowOffset: RANGE - 4096n }), "EEXIST"],
    ["another part of the file at the same place", () => ({ ...READ, node, fileOffset: RANGE }), "EEXIST"],
    ["past the end", () => ({ ...READ, node, windowOffset: 7n * MIB }), "EINVAL"],
    ["an unaligned window offset", () => ({ ...READ, node, windowOffset: 4n * MIB + 1n }), "EINVAL"],
    ["an unaligned file offset", () => ({ ...READ, node, windowOffset: 4n * MIB, fileOffset: 1n }), "EINVAL"],
    ["a length of 2^64-1", () => ({ ...READ, node, lengthBytes: 2n ** 64n - 1n }), "EINVAL"],
    [
      "a file offset past 2^63",
      () => ({ ...READ, node, windowOffset: RANGE, fileOffset: 2n ** 63n }),
      "EINVAL",
    ],
    ["an unknown node", () => ({ ...READ, node: 4711n as NodeId, windowOffset: 4n * MIB }), "ESTALE"],
    ["a directory", () => ({ ...READ, node: ROOT_NODE, windowOffset: 4n * MIB }), "EISDIR"],
  ])("refuses %s and changes nothing", (_, request, code) => {
    dax.setup({ ...READ, node });
    const before = [dax.list(), [...window.calls]];
    expect(() => dax.setup(request())).toThrow(failure(code));
    expect([dax.list(), window.calls]).toEqual(before);
  });

  it("keeps nothing of a mapping that the window refused", () => {
    window.failNext = failure("ENOMEM");
    expect(() => dax.setup({ ...READ, node })).toThrow(failure("ENOMEM"));
    expect(dax.list()).toEqual([]);
    expect(fs.usage().handles).toBe(0);
  });
});

describe("REMOVEMAPPING", () => {
  it("removes many ranges, each once, also when the driver repeats itself", () => {
    dax.setup({ ...READ, node });
    dax.setup({ ...READ, node: other, windowOffset: RANGE });
    const removal = { windowOffset: 0n, lengthBytes: RANGE };
    dax.remove([removal, { ...removal, windowOffset: RANGE }, removal]);
    expect(window.calls.filter((call) => call.kind === "unmap")).toHaveLength(2);
    dax.remove([removal]);
    expect(window.calls.filter((call) => call.kind === "unmap")).toHaveLength(2);
  });

  it.each([
    ["half a mapping", [{ windowOffset: 0n, lengthBytes: MIB }]],
    [
      "an unaligned second entry",
      [
        { windowOffset: 0n, lengthBytes: RANGE },
        { windowOffset: RANGE + 1n, lengthBytes: RANGE },
      ],
    ],
    ["more entries than fit a page", Array(257).fill({ windowOffset: 0n, lengthBytes: RANGE })],
  ])("refuses %s and changes nothing", (_, removals) => {
    dax.setup({ ...READ, node });
    expect(() => dax.remove(removals)).toThrow(failure("EINVAL"));
    expect(dax.list()).toHaveLength(1);
    expect(window.calls).toHaveLength(1);
  });
});

describe("any sequence of requests", () => {
  const page = fc.bigInt({ min: -1n, max: 2050n }).map((n) => n * 4096n);
  const setup = fc.record({
    windowOffset: page,
    lengthBytes: page,
    fileOffset: page,
    writable: fc.boolean(),
    first: fc.boolean(),
  });
  const removal = fc.record({ windowOffset: page, lengthBytes: page });

  it("leaves disjoint mappings inside the window, and the window agrees with the table", () => {
    fc.assert(
      fc.property(
        fc.array(fc.oneof(setup, fc.array(removal, { maxLength: 3 })), { maxLength: 30 }),
        (steps) => {
          const fresh = new RecordingWindow(8n * MIB);
          const table = new DaxMappings(fs, fresh);
          for (const step of steps) {
            try {
              if (Array.isArray(step)) table.remove(step);
              else table.setup({ ...step, node: step.first ? node : other });
            } catch (error) {
              expect(error).toHaveProperty("errno");
            }
          }
          const live = new Set<bigint>();
          for (const call of fresh.calls) {
            if (call.kind === "map") live.add(call.offsetBytes);
            else live.delete(call.offsetBytes);
          }
          const ranges = table.list().map((mapping) => mapping.range);
          expect(new Set(ranges.map((range) => range.offsetBytes))).toEqual(live);
          const sorted = ranges.toSorted((a, b) => Number(a.offsetBytes - b.offsetBytes));
          let end = 0n;
          for (const range of sorted) {
            expect(range.offsetBytes >= end).toBe(true);
            end = range.offsetBytes + range.lengthBytes;
          }
          expect(end <= 8n * MIB).toBe(true);
        },
      ),
      { numRuns: 200 },
    );
  });
});

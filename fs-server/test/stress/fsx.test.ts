/** The tester of random operations: right about a plain file, aware of what is wrong, and on mounts while the host changes the file. */
import { closeSync, openSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { type FsxPlace, type Operation, operationsOf, replay, seeded, shrunk } from "../../src/stress/fsx.ts";
import { fsxModes, fsxPlace } from "../../src/stress/fsx-modes.ts";
import { startServer } from "../support/server.ts";
import { keepUringOnFor, lackOfMount } from "../support/uring.ts";

/** Of random operations on a mount. */
const OPERATIONS = isLong ? 3000 : 800;

/** A folder with no mount: what the host changes is the client's file. */
function plain(each: number): FsxPlace {
  const path = join(temporaryDirectory(), "file");
  return { path, host: { path, each, attributesMs: 0 }, coherent: true };
}

const client = { by: "client", value: 7 } as const;

describe("random operations", () => {
  it("agree with the model in a folder, the host's among them", () => {
    const place = plain(4);
    expect(replay(place, seeded(place, 1, 3000))).toMatchObject({ operations: 3000, wrong: null });
  });

  it("are the same for the same seed, and have the host's only where asked for", () => {
    const some = (hostEach: number | null): readonly Operation[] => {
      const place = { path: "", coherent: false, host: null };
      const from = hostEach === null ? seeded(place, 9, 300) : operationsOf(9, hostEach);
      const taken: Operation[] = [];
      for (const one of from) if (taken.push(one) === 300) break;
      return taken;
    };
    expect(some(3)).toEqual(some(3));
    expect(some(null).every(({ by }) => by === "client")).toBe(true);
    expect(some(3).filter(({ by }) => by === "host").length).toBeGreaterThan(50);
  });

  it.each(["read", "mapped read", "stat"] as const)("see by %s what nobody should have changed", (kind) => {
    const place = { ...plain(1), host: null };
    const operations = function* (): Generator<Operation> {
      yield { ...client, kind: "write", at: 0, length: 5000 };
      if (kind === "stat") writeFileSync(place.path, "x");
      else {
        const fd = openSync(place.path, "r+");
        writeSync(fd, "x", 100);
        closeSync(fd);
      }
      yield { ...client, kind, at: 0, length: 4096 };
    };
    expect(replay(place, operations()).wrong).toMatch(
      kind === "stat" ? /^operation 1, client stat: size 1, not 5000/ : /byte 100 is 120, not 7/,
    );
  });
});

describe("a failing list of operations", () => {
  it("is made as short as it can be", () => {
    const place = plain(4);
    const all = [...seeded(place, 3, 400)];
    const needs = [all[17], all[250], all[399]];
    const fails = (some: readonly Operation[]): boolean =>
      needs.every((one) => one !== undefined && some.includes(one));
    expect(shrunk(all, fails, performance.now() + 10_000)).toEqual(needs);
  });

  it("is left as it is when there is no time", () => {
    const all = [...seeded(plain(4), 3, 10)];
    expect(shrunk(all, () => true, performance.now())).toEqual(all);
  });
});

const chosen = fsxModes.filter(({ name }) => isLong || ["uncached", "writeback"].includes(name));
const usable = chosen.filter(({ name, args }) => {
  const reason = lackOfMount(args);
  if (reason !== null) console.warn(`skipped: random operations, ${name}: ${reason}`);
  return reason === null;
});

describe.each(usable)("a mount, $name", (mode) => {
  keepUringOnFor(mode.args);

  it("has what the model says, while the host changes the file underneath", { timeout: 60_000 }, async () => {
    const [source, folder] = [temporaryDirectory(), temporaryDirectory()];
    const server = await startServer(["--source", source, "--mountpoint", folder, ...mode.args]);
    try {
      const place = fsxPlace(mode, { source, folder }, "file");
      const { wrong, unsupported } = replay(place, seeded(place, 2, OPERATIONS));
      expect({ wrong, unsupported }).toEqual({ wrong: null, unsupported: 0 });
    } finally {
      await server.stop();
    }
  });
});

/** Which of a guest's memory regions are RAM, that is looked at, and which are files that may get shorter, that are copied. */
import { closeSync, openSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterEach, beforeEach, describe, expect, it } from "vitest";
import { files, memfdCreate } from "../../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { GuestRegions, MemoryFault } from "../../../src/transport/vhost-user/memory.ts";
import { noMountBecause, startServer } from "../../support/server.ts";

const BYTES = 65_536n;

/** Each a file of its own. */
const sorts = {
  memfd: () => memfdCreate("ram"),
  nameless: () => {
    const path = join(temporaryDirectory(), "file");
    const fd = openSync(path, "w+");
    unlinkSync(path);
    return fd;
  },
  named: () => openSync(join(temporaryDirectory(), "file"), "w+"),
};
type Sort = keyof typeof sorts;

const opened: number[] = [];
let regions = new GuestRegions(() => false);
beforeEach(() => {
  regions = new GuestRegions(() => false);
});
afterEach(() => {
  regions.removeAll();
  for (const fd of opened.splice(0)) closeSync(fd);
});

function opening(sort: Sort): number {
  const fd = sorts[sort]();
  opened.push(fd);
  files.ftruncate(fd, BYTES);
  return fd;
}

const messageOf = (at: number) => ({
  gpa: BigInt(at) * BYTES,
  lengthBytes: BYTES,
  userAddress: BigInt(at) * BYTES,
  fdOffset: 0n,
});
const kinds = (): readonly string[] =>
  regions.shared.toSorted((a, b) => (a.gpa < b.gpa ? -1 : 1)).map(({ kind }) => kind);

describe("the regions of a guest", () => {
  it.each<[readonly Sort[], readonly string[]]>([
    [["memfd"], ["ram"]],
    [["nameless"], ["ram"]],
    [["named"], ["ram"]],
    [
      ["named", "named"],
      ["ram", "ram"],
    ],
    [
      ["memfd", "named"],
      ["ram", "window"],
    ],
    [
      ["memfd", "nameless", "memfd"],
      ["ram", "window", "ram"],
    ],
    [
      ["nameless", "named"],
      ["ram", "window"],
    ],
  ])("of %j, one after the other, are %j", (each, expected) => {
    for (const [at, sort] of each.entries()) regions.add(messageOf(at), opening(sort));
    expect(kinds()).toEqual(expected);
  });

  it("are told apart in a table, whatever its order", () => {
    const each: readonly Sort[] = ["named", "memfd", "nameless"];
    regions.addAll(
      each.map((_, at) => messageOf(at)),
      each.map(opening),
    );
    expect(kinds()).toEqual(["window", "ram", "window"]);
  });

  it("are RAM for as long as they are there, whatever comes later, and are judged anew when all have gone", () => {
    regions.add(messageOf(0), opening("named"));
    regions.add(messageOf(1), opening("memfd"));
    expect(kinds()).toEqual(["ram", "ram"]);
    regions.removeAll();
    regions.add(messageOf(1), opening("named"));
    expect(kinds()).toEqual(["ram"]);
  });

  it.skipIf(noMountBecause("devfuse") !== null)(
    "are no RAM on a FUSE mount: as in the window of a server",
    async () => {
      const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
      writeFileSync(join(source, "file"), Buffer.alloc(Number(BYTES)));
      const server = await startServer([
        "--source",
        source,
        "--mountpoint",
        mounted,
        "--transport",
        "devfuse",
      ]);
      try {
        const fd = openSync(join(mounted, "file"), "r+");
        regions.add(messageOf(0), fd);
        closeSync(fd);
        expect(kinds()).toEqual(["window"]);
        regions.removeAll();
      } finally {
        await server.stop();
      }
    },
  );

  it("need not be whole where they are files that may get shorter anyway", () => {
    const short = join(temporaryDirectory(), "short");
    writeFileSync(short, "x");
    const fd = openSync(short, "r+");
    opened.push(fd);
    expect(() => regions.add(messageOf(0), fd)).toThrow(MemoryFault);
    regions.add(messageOf(1), opening("memfd"));
    regions.add(messageOf(0), fd);
    truncateSync(short, 0);
    expect(regions.guestAddress(0n)).toBeNull();
    expect(regions.guestAddress(BYTES)).toBe(BYTES);
  });
});

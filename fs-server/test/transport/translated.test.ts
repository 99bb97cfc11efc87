/** A client with other user ids than the host: what it makes and sees is translated, on a real mount. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { asUser, tried } from "../support/calls.ts";
import { noMountBecause, type Server, startServer } from "../support/server.ts";

const reason = process.geteuid?.() === 0 ? noMountBecause("devfuse") : "needs root to act as other users";
const owner = (path: string): readonly number[] => [lstatSync(path).uid, lstatSync(path).gid];

describe.skipIf(reason !== null)("a mount whose ids are translated", () => {
  const [source, at] = [temporaryDirectory(), temporaryDirectory()];
  let server: Server;

  beforeAll(async () => {
    for (const folder of [source, at]) chmodSync(folder, 0o777);
    const rules = ["--translate-uid", "map:0:100000:1000", "--translate-gid", "map:0:200000:1000"];
    const forbidden = ["--translate-uid", "forbid-guest:5000:1"];
    server = await startServer(["--source", source, "--mountpoint", at, ...rules, ...forbidden]);
  });

  afterAll(async () => {
    expect((await server.stop()).code).toBe(0);
  });

  it("makes what its users make for those of the host", () => {
    asUser({ uid: 12, gid: 34 }, () => {
      writeFileSync(join(at, "file"), "");
      mkdirSync(join(at, "folder"));
    });
    for (const name of ["file", "folder"]) {
      expect([owner(join(source, name)), owner(join(at, name))]).toEqual([
        [100_012, 200_034],
        [12, 34],
      ]);
    }
  });

  it("shows the host's, gives files away, and lists", () => {
    writeFileSync(join(source, "host"), "");
    chownSync(join(source, "host"), 100_001, 7);
    expect(owner(join(at, "host"))).toEqual([1, 7]);
    chownSync(join(at, "host"), 2, 3);
    expect(owner(join(source, "host"))).toEqual([100_002, 200_003]);
    expect(readdirSync(at)).toContain("host");
  });

  it("refuses what is forbidden", () => {
    const make = (): unknown => tried(() => writeFileSync(join(at, "not"), ""));
    expect([asUser({ uid: 5000, gid: 1 }, make), tried(() => chownSync(join(at, "host"), 5000, 0))]).toEqual([
      "EPERM",
      "EPERM",
    ]);
  });
});

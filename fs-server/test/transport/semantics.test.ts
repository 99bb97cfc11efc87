/**
 * What Linux users rely on: the same calls in a folder and on a mount of another, in three modes of `serve`, with
 * DAXFAULT_LONG=1 in every one. Both must show the same. The cases are data (test/support/semantics); a new one is a function in one of its tables.
 */
import { spawnSync } from "node:child_process";
import { chmodSync, closeSync, mkdirSync, openSync, statSync } from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { files } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { cases, modes } from "../support/semantics/modes.ts";
import { prepareReadOnly, readOnly } from "../support/semantics/read-only.ts";
import { noMountBecause, type Server, startServer } from "../support/server.ts";
import { keepUringOnFor, lackOfMount } from "../support/uring.ts";

/** In the short form the modes that differ most in who answers: the server, the client's cache, libfuse. */
const chosen = modes.filter(({ title }) => isLong || ["default", "--writeback", "libfuse"].includes(title));

const usable = chosen.filter(({ title, args }) => {
  const isRoot = process.geteuid?.() === 0;
  const lack = args.includes("libfuse") ? noMountBecause("libfuse") : lackOfMount(args);
  const reason = isRoot ? lack : "needs root to act as other users";
  if (reason !== null) console.warn(`skipped: semantics of a mount, ${title}: ${reason}`);
  return reason === null;
});

describe.each(usable)("a mount by $title shows what the folder underneath does", ({ args, differs }) => {
  let [folder, source, mounted] = ["", "", ""];
  let server: Server;
  let count = 0;
  keepUringOnFor(args);

  beforeAll(async () => {
    [folder, source, mounted] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
    for (const path of [folder, source, mounted]) chmodSync(path, 0o755);
    server = await startServer(["--source", source, "--mountpoint", mounted, ...args]);
  });

  afterAll(async () => {
    expect((await server.stop()).code).toBe(0);
  });

  it.each(Object.entries(cases))("%s", (title, observe) => {
    count += 1;
    const name = `case-${count}`;
    const seen = (base: string, below: string): unknown => {
      mkdirSync(join(base, name));
      return observe({ at: (leaf) => join(base, name, leaf), host: (leaf) => join(below, name, leaf) });
    };
    const expected = seen(folder, folder);
    const found = seen(mounted, source);
    const why = differs[title];
    if (why === undefined) expect(found).toEqual(expected);
    else expect(found, `no longer seen: ${why}`).not.toEqual(expected);
  });
});

const cannotMount = process.geteuid?.() === 0 ? noMountBecause("devfuse") : "needs root to mount";

describe.skipIf(cannotMount !== null)("a mount by --read-only shows what a read-only bind mount does", () => {
  const [source, bound, mounted] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
  let server: Server;

  beforeAll(async () => {
    prepareReadOnly(source);
    spawnSync("mount", ["--bind", source, bound]);
    expect(spawnSync("mount", ["-o", "remount,bind,ro", bound]).status).toBe(0);
    server = await startServer(["--source", source, "--mountpoint", mounted, "--read-only"]);
  });

  afterAll(async () => {
    spawnSync("umount", ["-l", bound]);
    expect((await server.stop()).code).toBe(0);
  });

  it.each(Object.entries(readOnly))("%s", (_title, observe) => {
    const [expected, found] = [bound, mounted].map((base) =>
      observe({ at: (leaf) => join(base, leaf), host: (leaf) => join(source, leaf) }),
    );
    expect(found).toEqual(expected);
  });
});

it("differences are stated of cases that there are", () => {
  const stated = modes.flatMap(({ differs }) => Object.keys(differs));
  expect(stated.filter((title) => cases[title] === undefined)).toEqual([]);
});

describe.skipIf(usable.length === 0)("a mount of a tmpfs", () => {
  it("reads and writes above 2^53 bytes as anywhere else", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=16m", "none", source]).status).toBe(0);
    try {
      const server = await startServer(["--source", source, "--mountpoint", mounted]);
      const fd = openSync(join(mounted, "far"), "w+");
      const far = 2n ** 53n + 1n;
      expect(files.pwrite(fd, Buffer.from("far away"), far)).toBe(8);
      const into = Buffer.alloc(8);
      expect(files.pread(fd, into, far)).toBe(8);
      expect(into.toString()).toBe("far away");
      expect(statSync(join(mounted, "far"), { bigint: true }).size).toBe(far + 8n);
      expect(files.lseek(fd, 4096n, files.SEEK_DATA)).toBe((far / 4096n) * 4096n);
      closeSync(fd);
      expect(files.pread(openSync(join(source, "far"), "r"), into, far)).toBe(8);
      await server.stop();
    } finally {
      spawnSync("umount", ["-l", source]);
    }
  });
});

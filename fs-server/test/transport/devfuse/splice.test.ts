/** Large content, which devfuse moves by reference: the right bytes, and errors that leave nothing in the pipe. */

import { spawnSync } from "node:child_process";
import { randomBytes } from "node:crypto";
import { closeSync, fsyncSync, openSync, readFileSync, readSync, writeFileSync, writeSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../../sys/test/support/directories.ts";
import { Pipe, PipedContent } from "../../../src/transport/devfuse/splice.ts";
import { noMountBecause, startServer } from "../../support/server.ts";

const MEBIBYTE = 2 ** 20;

describe("a pipe", () => {
  it("moves content to a file, copies it where that is not possible, and is empty afterwards", () => {
    const pipe = Pipe.open();
    if (pipe === null) throw new Error("no pipe of 1 MiB: fs.pipe-max-size has been lowered");
    expect(pipe.contentBytes).toBeGreaterThan(MEBIBYTE - 32_768);
    const path = join(temporaryDirectory(), "file");
    const content = randomBytes(50_000);
    const filled = (): PipedContent => {
      expect(writeSync(pipe.into, content)).toBe(content.length);
      return new PipedContent(pipe, content.length);
    };
    const fd = openSync(path, "w+");
    expect(filled().moveTo(fd, 10n)).toBe(content.length);
    expect(readFileSync(path).subarray(10).equals(content)).toBe(true);
    // splice(2) refuses files open for appending.
    const appending = openSync(path, "a");
    const piped = filled();
    expect(piped.moveTo(appending, 0n)).toBe(null);
    expect(Buffer.from(piped.bytes()).equals(content)).toBe(true);
    filled().discard();
    expect(() => readSync(pipe.out, Buffer.alloc(1))).toThrow(/EAGAIN/);
    closeSync(fd);
    closeSync(appending);
    pipe.close();
  });
});

describe.skipIf(noMountBecause("devfuse") !== null)("large content on a mount", () => {
  it("is right at every length and offset, whatever comes between", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const server = await startServer(["--source", source, "--mountpoint", mounted]);
    const content = randomBytes(3 * MEBIBYTE);
    const fd = openSync(join(mounted, "file"), "w+");
    let at = 0;
    // The second of two large writes in a row comes by reference.
    for (const length of [MEBIBYTE, 700_001, 32_767, 1, 40_000, 40_001, 4096, 900_000]) {
      expect(writeSync(fd, content, at, length, at)).toBe(length);
      if (length < 40_000) writeFileSync(join(mounted, "between"), String(length));
      at += length;
    }
    fsyncSync(fd);
    closeSync(fd);
    expect(readFileSync(join(source, "file")).equals(content.subarray(0, at))).toBe(true);
    // Read past the end in one go: the last answer is shorter than asked for.
    const reading = openSync(join(mounted, "file"), "r");
    const into = Buffer.alloc(4 * MEBIBYTE);
    expect(readSync(reading, into, 0, into.length, 12_345)).toBe(at - 12_345);
    expect(into.subarray(0, at - 12_345).equals(content.subarray(12_345, at))).toBe(true);
    closeSync(reading);
    await server.stop();
  });

  it("waits in memory when a fault delays it", async () => {
    const [source, mounted, rules] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
    const delay = [{ operation: "write", times: null, action: { kind: "delay", ms: 5 } }];
    writeFileSync(join(rules, "faults.json"), JSON.stringify(delay));
    const faults = ["--faults", join(rules, "faults.json")];
    const server = await startServer(["--source", source, "--mountpoint", mounted, ...faults]);
    const content = randomBytes(4 * MEBIBYTE);
    writeFileSync(join(mounted, "file"), content);
    expect(readFileSync(join(source, "file")).equals(content)).toBe(true);
    await server.stop();
  });

  it.skipIf(process.geteuid?.() !== 0)("that a full source refuses turns up nowhere else", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    expect(spawnSync("mount", ["-t", "tmpfs", "-o", "size=2m", "none", source]).status).toBe(0);
    try {
      const server = await startServer(["--source", source, "--mountpoint", mounted]);
      const content = randomBytes(4 * MEBIBYTE);
      expect(() => writeFileSync(join(mounted, "large"), content)).toThrow(/ENOSPC/);
      const kept = readFileSync(join(source, "large"));
      expect(kept.length).toBeGreaterThan(MEBIBYTE);
      expect(kept.equals(content.subarray(0, kept.length))).toBe(true);
      writeFileSync(join(mounted, "large"), "small");
      expect(readFileSync(join(mounted, "large"), "utf8")).toBe("small");
      await server.stop();
    } finally {
      spawnSync("umount", ["-l", source]);
    }
  });
});

import { execFileSync } from "node:child_process";
import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { serveOptions, UsageError } from "../../src/serve/options.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-test-"));
afterAll(() => rmSync(folder, { recursive: true, force: true }));
const path = join(folder, "rules.json");
const faults = () =>
  serveOptions(["--source", folder, "--mountpoint", join(folder, "mnt"), "--faults", path]).faults;

describe("--faults", () => {
  it("is a list of rules", () => {
    mkdirSync(join(folder, "mnt"));
    writeFileSync(path, '[{"operation":"read","action":{"kind":"delay","ms":5}}]');
    expect(faults()).toEqual([
      { operation: "read", at: null, after: 0, times: null, action: { kind: "delay", ms: 5 } },
    ]);
  });

  it.each([
    ["[null]", "rule 1 of"],
    ["[5]", "rule 1 of"],
    ["{}", "not an array"],
    ["[", "cannot be read as JSON"],
    [`${" ".repeat(64 * 1024)}[]`, "65538 bytes are more than the limit 65536"],
    ["[".repeat(30_000), "cannot be read as JSON"],
  ])("refuses %s", (text, reason) => {
    writeFileSync(path, text);
    expect(faults).toThrow(UsageError);
    expect(faults).toThrow(reason);
  });

  it("refuses a FIFO, which would never end", () => {
    rmSync(path);
    execFileSync("mkfifo", [path]);
    expect(faults).toThrow("is a FIFO, not a regular file");
  });
});

describe("options of virtiofsd", () => {
  const options = (...args: readonly string[]) =>
    serveOptions(["--source", folder, "--mountpoint", join(folder, "mnt"), ...args]);

  it.each([
    [[], { entryTimeoutMs: 1000, keepCache: false, directIo: false, posixAcl: null, fileHandles: "prefer" }],
    [["--cache", "always"], { attributeTimeoutMs: 86_400_000, keepCache: true, directIo: false }],
    [["--cache", "never"], { attributeTimeoutMs: 0, keepCache: false, directIo: true }],
    [
      ["--cache", "metadata", "--attr-timeout", "7"],
      { entryTimeoutMs: 86_400_000, attributeTimeoutMs: 7, directIo: true },
    ],
    [["--posix-acl"], { posixAcl: true }],
    [["--no-posix-acl"], { posixAcl: false }],
    [[], { posixLock: false, flock: false }],
    [["--posix-lock", "--flock"], { posixLock: true, flock: true }],
    [["--no-posix-lock", "--flock"], { posixLock: false, flock: true }],
    [["--inode-file-handles=never"], { fileHandles: "never" }],
    [
      ["--translate-uid", "map:0:1:2", "--translate-uid=host:5:6:7"],
      { translateUid: ["map:0:1:2", "host:5:6:7"] },
    ],
  ])("%j", (args, expected) => {
    expect(options(...args)).toMatchObject(expected);
  });

  it.each([
    [["--cache", "some"], "--cache some"],
    [["--cache", "never", "--writeback"], "--cache never"],
    [["--posix-acl", "--no-posix-acl"], "exclude each other"],
    [["--posix-lock", "--no-posix-lock"], "exclude each other"],
    [["--flock", "--no-flock"], "exclude each other"],
    [["--io-uring", "--posix-lock"], "--io-uring does not go with --posix-lock"],
    [["--io-uring", "--flock"], "--io-uring does not go with --flock"],
    [["--io-uring", "--guard", "fuse-lease"], "--io-uring does not go with --guard fuse-lease"],
    [["--transport", "libfuse", "--flock"], "--flock needs"],
    [["--inode-file-handles", "no"], "--inode-file-handles no"],
    [["--translate-gid", "map:1"], "--translate-gid"],
    [["--transport", "libfuse", "--cache", "never"], "--cache needs"],
    [["--transport", "libfuse", "--allow-direct-io"], "--allow-direct-io needs"],
  ])("%j is refused", (args, reason) => {
    expect(() => options(...args)).toThrow(reason);
  });
});

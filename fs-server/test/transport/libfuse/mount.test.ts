/** A real mount through fuse-native, used through the kernel like any other file system. */
import {
  closeSync,
  existsSync,
  fsyncSync,
  ftruncateSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  readSync,
  renameSync,
  rmdirSync,
  statfsSync,
  statSync,
  symlinkSync,
  truncateSync,
  unlinkSync,
  utimesSync,
  writeFileSync,
  writeSync,
} from "node:fs";
import { join } from "node:path";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { files } from "../../../../sys/src/index.ts";
import { isFuseMounted } from "../../../src/serve/mount-point.ts";
import { temporaryDirectory } from "../../support/directories.ts";
import { noMountBecause, type Server, serveExpectingEnd, startServer } from "../../support/server.ts";

const reason = noMountBecause("libfuse");
if (reason !== null) console.warn(`skipped: mounts through libfuse: ${reason}`);

describe.skipIf(reason !== null)("a libfuse mount", () => {
  let source: string;
  let mounted: string;
  let server: Server;

  beforeAll(async () => {
    source = temporaryDirectory();
    mounted = temporaryDirectory();
    server = await startServer(["--source", source, "--mountpoint", mounted, "--transport", "libfuse"]);
  });

  afterAll(async () => {
    const ended = await server.stop();
    expect(ended.code).toBe(0);
    expect(isFuseMounted(mounted)).toBe(false);
  });

  it("says in one line what it is", () => {
    expect(server.ready).toMatchObject({ type: "ready", transport: "libfuse", mountpoint: mounted });
    expect(isFuseMounted(mounted)).toBe(true);
  });

  it("writes and reads content, in pieces larger than 4 KiB", () => {
    const content = Buffer.alloc(300_000, "pattern.");
    writeFileSync(join(mounted, "file"), content);
    expect(readFileSync(join(source, "file")).equals(content)).toBe(true);
    expect(readFileSync(join(mounted, "file")).equals(content)).toBe(true);
    const fd = openSync(join(mounted, "file"), "r+");
    expect(writeSync(fd, "xyz", 5)).toBe(3);
    fsyncSync(fd);
    ftruncateSync(fd, 8);
    closeSync(fd);
    expect(readFileSync(join(source, "file"), "latin1")).toBe("pattexyz");
  });

  it("truncates by path, which the source sees at once", () => {
    writeFileSync(join(mounted, "cut"), "x".repeat(10_000));
    truncateSync(join(mounted, "cut"), 100);
    expect(statSync(join(source, "cut")).size).toBe(100);
    truncateSync(join(mounted, "cut"), 0);
    expect(statSync(join(source, "cut")).size).toBe(0);
  });

  it("has sizes above 2^32", () => {
    const fd = openSync(join(mounted, "large"), "w+");
    ftruncateSync(fd, 2 ** 33 + 5);
    writeSync(fd, "end", 2 ** 33 + 1);
    const into = Buffer.alloc(3);
    readSync(fd, into, 0, 3, 2 ** 33 + 1);
    closeSync(fd);
    expect(into.toString()).toBe("end");
    expect(statSync(join(mounted, "large")).size).toBe(2 ** 33 + 5);
  });

  it("makes, lists, renames and removes names", () => {
    mkdirSync(join(mounted, "folder"), 0o755);
    writeFileSync(join(mounted, "folder", "a"), "a");
    symlinkSync("a", join(mounted, "folder", "link"));
    renameSync(join(mounted, "folder", "a"), join(mounted, "folder", "b"));
    expect(readdirSync(join(mounted, "folder")).toSorted()).toEqual(["b", "link"]);
    expect(readlinkSync(join(mounted, "folder", "link"))).toBe("a");
    expect(lstatSync(join(mounted, "folder", "link")).isSymbolicLink()).toBe(true);
    expect(() => rmdirSync(join(mounted, "folder"))).toThrow(/ENOTEMPTY/);
    unlinkSync(join(mounted, "folder", "b"));
    unlinkSync(join(mounted, "folder", "link"));
    rmdirSync(join(mounted, "folder"));
    expect(existsSync(join(source, "folder"))).toBe(false);
    expect(() => statSync(join(mounted, "folder"))).toThrow(/ENOENT/);
  });

  it("sets times to the millisecond, and answers statfs", () => {
    writeFileSync(join(mounted, "times"), "");
    utimesSync(join(mounted, "times"), 1_600_000_000.25, 1_500_000_000.125);
    expect(statSync(join(source, "times")).atimeMs).toBe(1_600_000_000_250);
    // fuse-native 2.2.6 passes the access time twice (fuse-native.c, utimens): the modification time is lost there.
    expect(statSync(join(source, "times")).mtimeMs).toBe(1_600_000_000_250);
    expect(statfsSync(mounted).blocks).toBeGreaterThan(0);
  });

  it("carries extended attributes", () => {
    writeFileSync(join(mounted, "attributed"), "");
    const path = files.pathBytes(join(mounted, "attributed"));
    const name = files.pathBytes("user.origin");
    const result = files.setxattr(path, name, Buffer.from("here"), 0);
    if (result < 0) return; // The source's file system has none.
    const into = Buffer.alloc(10);
    expect(files.getxattr(path, name, into)).toBe(4);
    expect(into.subarray(0, 4).toString()).toBe("here");
    const list = Buffer.alloc(200);
    expect(list.subarray(0, files.listxattr(path, list)).toString()).toContain("user.origin");
    expect(files.removexattr(path, name)).toBe(0);
  });
});

describe.skipIf(reason !== null)("a server that cannot serve", () => {
  const transport = ["--transport", "libfuse"];

  it.each([
    ["a missing mount point", "/nonexistent/place", /does not exist; make it first/],
    ["a file as mount point", "/etc/passwd", /is not a directory/],
    ["a mount point with content", "/etc", /is not empty/],
    ["a mount point in use", "/proc", /is busy/],
  ])("says so: %s", async (_, mountPoint, message) => {
    const source = temporaryDirectory();
    const ended = await serveExpectingEnd(["--source", source, "--mountpoint", mountPoint, ...transport]);
    expect(ended.stderr).toMatch(message);
    expect(ended).toMatchObject({ code: 1, stdout: "" });
  });

  it("says so: a missing source, a missing option, an unknown option", async () => {
    const place = temporaryDirectory();
    const noSource = await serveExpectingEnd([
      "--source",
      "/nonexistent",
      "--mountpoint",
      place,
      ...transport,
    ]);
    expect(noSource).toMatchObject({ code: 1 });
    expect(noSource.stderr).toMatch(/cannot serve \/nonexistent: ENOENT/);
    expect((await serveExpectingEnd(["--source", place])).code).toBe(64);
    expect((await serveExpectingEnd(["--sauce", place])).code).toBe(64);
    const orphan = ["--source", place, "--mountpoint", place, "--parent-pid", "1"];
    expect((await serveExpectingEnd(orphan)).stderr).toMatch(/process that started this server has gone/);
  });
});

/** Real mounts, one of each transport over the same passthrough, used through the kernel like any file system. */
import { type ChildProcess, type StdioOptions, spawn, spawnSync } from "node:child_process";
import {
  chmodSync,
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
import { readFile as readFileAsync } from "node:fs/promises";
import { join } from "node:path";
import { setTimeout } from "node:timers/promises";
import { afterAll, beforeAll, describe, expect, it } from "vitest";
import { transports } from "../../../language/src/index.ts";
import { compiledEntry, files, MNT_DETACH, unmount } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { isFuseMounted } from "../../src/serve/mount-point.ts";
import {
  noMountBecause,
  SERVE_MAIN,
  type Server,
  serveExpectingEnd,
  startServer,
} from "../support/server.ts";

const usable = transports.filter((transport) => {
  const reason = noMountBecause(transport);
  if (reason !== null) console.warn(`skipped: mounts through ${transport}: ${reason}`);
  return reason === null;
});
/** Whose processes are started and ended in each way. */
const ended = usable.filter((transport) => isLong || transport === "devfuse");

describe.each(usable)("a %s mount", (transport) => {
  let source: string;
  let mounted: string;
  let server: Server;

  beforeAll(async () => {
    source = temporaryDirectory();
    mounted = temporaryDirectory();
    server = await startServer(["--source", source, "--mountpoint", mounted, "--transport", transport]);
  });

  afterAll(async () => {
    const ended = await server.stop();
    expect(ended.code).toBe(0);
    expect(isFuseMounted(mounted)).toBe(false);
  });

  it("says in one line what it is", () => {
    expect(server.ready).toMatchObject({ type: "ready", transport, mountpoint: mounted });
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
    const modified = transport === "libfuse" ? 1_600_000_000_250 : 1_500_000_000_125;
    expect(statSync(join(source, "times")).mtimeMs).toBe(modified);
    expect(statfsSync(mounted).blocks).toBeGreaterThan(0);
  });

  it("lists trusted attributes for those with CAP_SYS_ADMIN only", (context) => {
    chmodSync(source, 0o755);
    writeFileSync(join(mounted, "trusted"), "");
    const path = files.pathBytes(join(source, "trusted"));
    for (const name of ["trusted.secret", "user.origin"]) {
      const result = files.setxattr(path, files.pathBytes(name), Buffer.from("x"), 0);
      if (result < 0) context.skip(`${name} cannot be set: errno ${-result}`);
    }
    const sys = compiledEntry(import.meta.url, "../../../sys/src/index.ts").href;
    // fuse-native 2.2.6 adds 128 to the size that is asked for (index.js, _op_listxattr).
    const more = transport === "libfuse" ? 128 : 0;
    const script = `
      const { files } = await import(${JSON.stringify(sys)});
      const path = files.pathBytes(process.argv[1]);
      const list = Buffer.alloc(files.listxattr(path, new Uint8Array(0)));
      const size = files.listxattr(path, list);
      console.log(list.length - size === ${more} ? list.toString("utf8", 0, size) : "another length than asked for");`;
    const listAs = (...identity: readonly string[]): readonly string[] => {
      const node = [process.execPath, "--input-type=module", "-e", script, join(mounted, "trusted")];
      const { stdout } = spawnSync("setpriv", [...identity, "--", ...node], { encoding: "utf8" });
      return stdout
        .trim()
        .split("\0")
        .filter((name) => !/^(|security\..*|system\..*)$/.test(name))
        .toSorted();
    };
    const [few, all] = [["user.origin"], ["trusted.secret", "user.origin"]];
    expect(listAs("--reuid", "4711", "--clear-groups")).toEqual(few);
    expect(listAs("--bounding-set", "-sys_admin")).toEqual(few);
    expect(listAs("--reuid", "0")).toEqual(transport === "libfuse" ? few : all);
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

describe.each(ended)("a %s server that another process unmounts", (transport) => {
  const start = async (): Promise<{ readonly mounted: string; readonly server: Server }> => {
    const mounted = temporaryDirectory();
    const places = ["--source", temporaryDirectory(), "--mountpoint", mounted];
    return { mounted, server: await startServer([...places, "--transport", transport]) };
  };

  it("ends with 0", async () => {
    const { mounted, server } = await start();
    writeFileSync(join(mounted, "file"), "x");
    expect(unmount(mounted, 0)).toBe(0);
    expect((await server.ended).code).toBe(0);
  });

  it("serves files that are still open after a lazy unmount, and ends with the last of them", async () => {
    const { mounted, server } = await start();
    writeFileSync(join(mounted, "file"), "x".repeat(100));
    const fd = openSync(join(mounted, "file"), "r+");
    expect(unmount(mounted, MNT_DETACH)).toBe(0);
    await setTimeout(500);
    expect(writeSync(fd, "y", 0)).toBe(1);
    fsyncSync(fd);
    expect(server.process.exitCode).toBeNull();
    closeSync(fd);
    expect((await server.ended).code).toBe(0);
  });
});

describe.each(ended)("a detached %s server", (transport) => {
  const detached = (mounted: string, stdio: StdioOptions): ChildProcess => {
    const places = ["--source", temporaryDirectory(), "--mountpoint", mounted];
    const args = [SERVE_MAIN, ...places, "--detached", "--transport", transport];
    return spawn(process.execPath, args, { stdio });
  };
  const endOf = (child: ChildProcess) => new Promise<number | null>((done) => child.once("exit", done));

  it("unmounts and ends when its launcher has ended before the ready line", async () => {
    const mounted = temporaryDirectory();
    const child = detached(mounted, ["ignore", "pipe", "pipe"]);
    const ended = endOf(child);
    let said = "";
    child.stderr?.on("data", (bytes: Buffer) => {
      said += bytes.toString();
    });
    child.stdout?.destroy();
    expect(await ended).toBe(1);
    expect(said).toContain("the ready line cannot be written (EPIPE): unmounted");
    expect(isFuseMounted(mounted)).toBe(false);
  });

  it("goes on serving when its launcher ends after the ready line, and unmounts without a reader of stderr", async () => {
    const mounted = temporaryDirectory();
    const child = detached(mounted, ["ignore", "pipe", "pipe"]);
    const ended = endOf(child);
    await new Promise((ready) => child.stdout?.once("data", ready));
    child.stdout?.destroy();
    child.stderr?.destroy();
    writeFileSync(join(mounted, "file"), "x");
    expect(readFileSync(join(mounted, "file"), "utf8")).toBe("x");
    child.kill("SIGTERM");
    expect(await ended).toBe(0);
    expect(isFuseMounted(mounted)).toBe(false);
  });
});

describe.each(ended)("a %s server that cannot serve", (name) => {
  const transport = ["--transport", name];

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

describe.skipIf(!usable.includes("devfuse"))("a devfuse server", () => {
  it("agrees on the full protocol and says on what", async () => {
    const mounted = temporaryDirectory();
    const server = await startServer(["--source", temporaryDirectory(), "--mountpoint", mounted]);
    expect(server.ready).toMatchObject({ transport: "devfuse", protocol: { minor: expect.any(Number) } });
    expect(JSON.stringify(server.ready)).toContain("DO_READDIRPLUS");
    expect((await server.stop("SIGINT")).code).toBe(0);
  });

  it("allocates, finds holes, renames with flags and copies within", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const server = await startServer(["--source", source, "--mountpoint", mounted]);
    const fd = openSync(join(mounted, "file"), "w+");
    expect(files.fallocate(fd, 0, 0n, 8192n)).toBe(0);
    expect(files.fallocate(fd, 3, 4096n, 4096n)).toBe(0);
    expect(statSync(join(source, "file")).size).toBe(8192);
    ftruncateSync(fd, 1024 * 1024);
    expect(files.lseek(fd, 8192n, files.SEEK_HOLE)).toBe(8192n);
    writeSync(fd, "0123456789", 0);
    const other = openSync(join(mounted, "other"), "w+");
    expect(files.copyFileRange({ fd, offset: 2n }, { fd: other, offset: 0n }, 3n)).toBe(3);
    expect(readFileSync(join(source, "other"), "utf8")).toBe("234");
    closeSync(fd);
    closeSync(other);
    const [a, b] = [files.pathBytes(join(mounted, "file")), files.pathBytes(join(mounted, "other"))];
    expect(files.renameat2(files.AT_FDCWD, a, files.AT_FDCWD, b, files.RENAME_EXCHANGE)).toBe(0);
    expect(readFileSync(join(source, "file"), "utf8")).toBe("234");
    await server.stop();
  });

  it("shows at once what the host does to the source, when nothing is cached", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    writeFileSync(join(source, "file"), "x".repeat(5000));
    const uncached = ["--entry-timeout", "0", "--attr-timeout", "0"];
    const server = await startServer(["--source", source, "--mountpoint", mounted, ...uncached]);
    expect(statSync(join(mounted, "file")).size).toBe(5000);
    truncateSync(join(source, "file"), 10);
    expect(statSync(join(mounted, "file")).size).toBe(10);
    await server.stop();
  });

  it("is read only when asked to be", async () => {
    const [source, mounted] = [temporaryDirectory(), temporaryDirectory()];
    const server = await startServer(["--source", source, "--mountpoint", mounted, "--read-only"]);
    expect(() => writeFileSync(join(mounted, "file"), "")).toThrow(/EROFS/);
    await server.stop();
  });

  it("leaves no dead mount behind when it is killed", async () => {
    const mounted = temporaryDirectory();
    const server = await startServer(["--source", temporaryDirectory(), "--mountpoint", mounted]);
    await server.stop("SIGKILL");
    await expect.poll(() => isFuseMounted(mounted), { timeout: 5000 }).toBe(false);
  });

  it("delays a READ without holding up others, then fails it: faults by rule", async () => {
    const [source, mounted, rules] = [temporaryDirectory(), temporaryDirectory(), temporaryDirectory()];
    writeFileSync(join(source, "file"), "x".repeat(100));
    const delay = { operation: "read", times: 1, action: { kind: "delay", ms: 300 } };
    const fail = { operation: "read", after: 1, action: { kind: "fail", errno: "EIO" } };
    const elsewhere = { operation: "read", at: 1 << 20, action: { kind: "fail", errno: "ENXIO" } };
    writeFileSync(join(rules, "faults.json"), JSON.stringify([delay, fail, elsewhere]));
    const faults = ["--faults", join(rules, "faults.json")];
    const server = await startServer(["--source", source, "--mountpoint", mounted, ...faults]);
    const started = performance.now();
    const slow = readFileAsync(join(mounted, "file"), "utf8");
    statSync(mounted);
    writeFileSync(join(mounted, "other"), "y");
    expect(performance.now() - started).toBeLessThan(250);
    expect(await slow).toHaveLength(100);
    expect(performance.now() - started).toBeGreaterThanOrEqual(295);
    writeFileSync(join(source, "second"), "z");
    await expect(readFileAsync(join(mounted, "second"))).rejects.toThrow(/EIO/);
    await server.stop();
  });

  it("refuses options that do not fit", async () => {
    const place = temporaryDirectory();
    const base = ["--source", place, "--mountpoint", place];
    const wrong: [string[], RegExp][] = [
      [["--transport", "smoke"], /unknown transport smoke; there are: devfuse, libfuse/],
      [["--transport", "libfuse", "--writeback"], /--writeback needs --transport devfuse/],
      [["--writeback", "--passthrough"], /exclude each other/],
      [["--attr-timeout", "1.5"], /--attr-timeout 1.5 is not a whole number from 0 to 86400000/],
      [["--faults", "/nonexistent"], /--faults \/nonexistent: there is no such file/],
    ];
    for (const [args, message] of wrong) {
      const ended = await serveExpectingEnd([...base, ...args]);
      expect(ended.stderr).toMatch(message);
      expect(ended.code).toBe(64);
    }
  });
});

import { execFileSync, spawnSync } from "node:child_process";
import { closeSync, existsSync, fstatSync, mkdirSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { connect } from "node:net";
import { dirname, join } from "node:path";
import { afterEach, describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { FuseLeaseGuard } from "../../src/lease/fuse-lease.ts";
import { RecordingHolder } from "../support/holder.ts";
import { hostDoes, onHost } from "../support/host.ts";
import { mountBtrfs, noBtrfsBecause } from "../support/loop.ts";
import { type Server, serveExpectingEnd, startServer } from "../support/server.ts";
import { keepUringOnFor, ways } from "../support/uring.ts";

const BYTES = 4 * 4096;
const noBtrfs = noBtrfsBecause();
if (noBtrfs !== null) console.warn(`skipped: leases in a btrfs subvolume: ${noBtrfs}`);
let close = async (): Promise<void> => {};
afterEach(() => close());

type Place = {
  readonly source: string;
  readonly mounted: string;
  readonly socket: string;
  readonly server: Server;
};

type Where = { readonly within: string; readonly source: string };

async function serve(args: readonly string[], where: Where | null = null): Promise<Place> {
  const folder = temporaryDirectory();
  const [mountpoint, socket] = ["mount", "leases"].map((name) => join(folder, name));
  const sourceDir = where?.source ?? join(folder, "source");
  const within = where?.within ?? "";
  for (const path of [sourceDir, mountpoint]) mkdirSync(path ?? "", { recursive: true });
  writeFileSync(join(sourceDir, within, "file"), Buffer.alloc(BYTES, 1));
  const server = await startServer(
    [
      "--source",
      sourceDir,
      "--mountpoint",
      mountpoint,
      "--guard",
      "fuse-lease",
      "--lease-socket",
      socket,
      ...args,
    ].map(String),
  );
  close = async () => {
    close = async () => {};
    await server.stop();
  };
  return {
    source: join(sourceDir, within, "file"),
    mounted: join(mountpoint ?? "", within, "file"),
    socket: socket ?? "",
    server,
  };
}

/** @param boundMs of the client's own, which is above the server's by default */
async function hold(place: Place, holder: RecordingHolder, boundMs = 60_000) {
  const guard = await FuseLeaseGuard.open(place.socket, { boundMs });
  const fd = openSync(place.source, "r+");
  const armed = await guard.arm({ fd }, holder);
  const stop = close;
  close = async () => {
    await guard.close();
    closeSync(fd);
    await stop();
  };
  return { guard, fd, armed };
}

for (const { title, args, isUsable } of ways) {
  describe.skipIf(!isUsable)(`leases of the server's own, ${title}`, () => {
    keepUringOnFor(args);

    for (const [way, code, told] of [
      ["truncate(2)", "sys.truncate(path, 4096n)", "recall 4096"],
      ["open and ftruncate", 'const fd = fs.openSync(path, "r+"); fs.ftruncateSync(fd, 4096)', "recall 4096"],
      ["open(O_TRUNC)", 'fs.closeSync(fs.openSync(path, "w"))', "recall 0"],
      ["punch hole", "sys.punchHole(path, 4096n, 4096n)", "recall 4096"],
      ["collapse range", "sys.collapseRange(path, 4096n, 4096n)", "recall 4096"],
    ] as const) {
      it(`${way} through the mount waits for the holder`, async () => {
        const place = await serve(args);
        let sizeAtRecall = -1;
        const holder = new RecordingHolder(() => {
          sizeAtRecall = fstatSync(fd).size;
        });
        const { fd } = await hold(place, holder);
        const settled = holder.next(/settle/);
        const { errno } = await hostDoes(place.mounted, code);
        // FUSE passes on no fallocate mode but KEEP_SIZE, PUNCH_HOLE and ZERO_RANGE (fuse_file_fallocate()).
        if (way === "collapse range") {
          expect([errno, holder.recorded]).toEqual(["EOPNOTSUPP", []]);
          return;
        }
        await settled;
        expect(errno).toBeNull();
        expect(sizeAtRecall).toBe(BYTES);
        expect(holder.recorded[0]).toBe(told);
      });
    }

    /** Truncates a file on another device than the source's, and makes it longer again by a write. */
    async function seenElsewhere(place: Place): Promise<readonly string[]> {
      const holder = new RecordingHolder();
      await hold(place, holder);
      const settled = holder.next(/settle 4096/);
      await hostDoes(place.mounted, "sys.truncate(path, 4096n)");
      await settled;
      const written = holder.next(/settle 4196/);
      await hostDoes(place.mounted, 'fs.appendFileSync(path, "x".repeat(100))');
      await written;
      return holder.recorded;
    }
    const seen = ["recall 4096", "settle 4096", "settle 4196"];

    it.skipIf(noBtrfs !== null)("knows a file in a btrfs subvolume as its holder does", async () => {
      const { path, unmount } = mountBtrfs(temporaryDirectory());
      try {
        // Both subvolumes have a file with the same inode number.
        for (const name of ["one", "two"]) {
          execFileSync("btrfs", ["-q", "subvolume", "create", join(path, name)]);
          writeFileSync(join(path, name, "file"), Buffer.alloc(BYTES, 1));
        }
        const place = await serve(args, { within: "two", source: path });
        const other = new RecordingHolder();
        const guard = await FuseLeaseGuard.open(place.socket, { boundMs: 2000 });
        const fd = openSync(join(path, "one/file"), "r+");
        await guard.arm({ fd }, other);
        expect(await seenElsewhere(place)).toEqual(seen);
        expect(other.recorded).toEqual([]);
        await guard.close();
        closeSync(fd);
      } finally {
        await close();
        unmount();
      }
    });

    it.skipIf(process.geteuid?.() !== 0)("knows a file on a mount inside the source, too", async () => {
      const source = temporaryDirectory();
      const inside = join(source, "inside");
      mkdirSync(inside);
      execFileSync("mount", ["-t", "tmpfs", "none", inside]);
      try {
        expect(
          await seenElsewhere(await serve([...args, "--announce-submounts"], { within: "inside", source })),
        ).toEqual(seen);
      } finally {
        await close();
        spawnSync("umount", ["-l", inside]);
      }
    });

    it("tells the holder when the file has grown again, by a size or by a write", async () => {
      const place = await serve(args);
      const holder = new RecordingHolder();
      await hold(place, holder);
      const grown = holder.next(/settle 8192/);
      await hostDoes(place.mounted, "sys.truncate(path, 0n); sys.truncate(path, 8192n)");
      await grown;
      const written = holder.next(/settle 8292/);
      await hostDoes(place.mounted, 'fs.appendFileSync(path, "x".repeat(100))');
      await written;
    });

    it("recalls twice where it is truncated twice in a row", async () => {
      const place = await serve(args);
      const holder = new RecordingHolder();
      await hold(place, holder);
      const last = holder.next(/settle 0/);
      await hostDoes(place.mounted, "sys.truncate(path, 4096n); sys.truncate(path, 0n)");
      await last;
      expect(holder.recorded).toEqual(["recall 4096", "settle 4096", "recall 0", "settle 0"]);
    });

    it("guards 1,000 files at once, each truncated in turn", async () => {
      const place = await serve(args);
      const folder = dirname(place.source);
      const guard = await FuseLeaseGuard.open(place.socket, { boundMs: 2000 });
      const holders: RecordingHolder[] = [];
      for (let i = 0; i < 1000; i += 1) {
        const path = join(folder, String(i));
        writeFileSync(path, "x");
        const fd = openSync(path, "r+");
        const holder = new RecordingHolder();
        await guard.arm({ fd }, holder);
        closeSync(fd);
        holders.push(holder);
      }
      const stop = close;
      close = async () => {
        await guard.close();
        await stop();
      };
      const settled = Promise.all(holders.map((holder) => holder.next(/settle 0/)));
      const code = 'for (let i = 0; i < 1000; i += 1) sys.truncate(path + "/" + i, 0n)';
      expect(await hostDoes(dirname(place.mounted), code)).toMatchObject({ errno: null });
      await settled;
      expect(holders.every(({ recorded }) => recorded.join() === "recall 0,settle 0")).toBe(true);
    });

    it("serves others while one truncation waits; what bypasses the server is not seen", async () => {
      const place = await serve(args);
      let answer = (): void => {};
      const holder = new RecordingHolder(
        () =>
          new Promise<void>((resolve) => {
            answer = resolve;
          }),
      );
      await hold(place, holder);
      const recalled = holder.next(/recall/);
      const truncating = (await onHost(place.mounted, "sys.truncate(path, 0n)"))();
      await recalled;
      expect(
        await hostDoes(place.mounted.replace("file", ""), 'fs.writeFileSync(path + "other", "x")'),
      ).toMatchObject({
        errno: null,
      });
      expect(readFileSync(place.source).length).toBe(BYTES);
      answer();
      expect(await truncating.done).toMatchObject({ errno: null });
      const before = holder.recorded.length;
      await hostDoes(place.source, "sys.truncate(path, 100n)");
      expect(holder.recorded.slice(before)).toEqual([]);
    });

    it("does not wait for a client that never acknowledges, and cuts it off", async () => {
      const place = await serve(args);
      const holder = new RecordingHolder(() => new Promise(() => {}));
      const { guard } = await hold(place, holder);
      const cut = holder.next(/cut off/);
      const done = await hostDoes(place.mounted, "sys.truncate(path, 0n)");
      expect(done.errno).toBeNull();
      expect(done.ms).toBeGreaterThan(1900);
      expect(done.ms).toBeLessThan(10_000);
      await cut;
      const late = guard.arm({ fd: openSync(place.source, "r") }, holder);
      await expect(late).rejects.toThrow("the server has closed the connection");
    });

    for (const [what, answer, reason] of [
      [
        "fails to",
        () => Promise.reject(new Error("the VMM has it mapped still")),
        /failed: the VMM has it mapped still$/,
      ],
      ["does not", () => new Promise<void>(() => {}), /no acknowledgement within 200 ms/],
    ] as const) {
      it(`lets a file go that its holder ${what} give up, and keeps the client's others`, async () => {
        const place = await serve(args);
        const other = join(dirname(place.source), "other");
        writeFileSync(other, Buffer.alloc(BYTES, 1));
        const [holder, whole] = [new RecordingHolder(answer), new RecordingHolder()];
        const { guard } = await hold(place, holder, 200);
        const cut = holder.next(/cut off/);
        const fd = openSync(other, "r+");
        await guard.arm({ fd }, whole);
        expect(await hostDoes(place.mounted, "sys.truncate(path, 0n)")).toMatchObject({ errno: null });
        await cut;
        expect(holder.recorded.slice(0, 2)).toEqual(["recall 0", expect.stringMatching(reason)]);
        const settled = whole.next(/settle 100/);
        await hostDoes(join(dirname(place.mounted), "other"), "sys.truncate(path, 100n)");
        await settled;
        expect(whole.recorded).toEqual(["recall 100", "settle 100"]);
        closeSync(fd);
      });
    }

    it("lets the truncater go, with an error, when the server is killed while it waits", async () => {
      const place = await serve(args);
      const holder = new RecordingHolder(() => new Promise(() => {}));
      await hold(place, holder);
      const recalled = holder.next(/recall/);
      const truncating = (await onHost(place.mounted, "sys.truncate(path, 0n)"))();
      await recalled;
      const cut = holder.next(/cut off/);
      await place.server.stop("SIGKILL");
      await cut;
      expect(["ECONNABORTED", "ENOTCONN"]).toContain((await truncating.done).errno);
      // The file is whole: nobody had agreed.
      expect(readFileSync(place.source).length).toBe(BYTES);
    });

    it("takes nonsense from a client for its end", async () => {
      const place = await serve(args);
      const socket = connect(place.socket);
      const closed = new Promise((resolve) => socket.once("close", resolve));
      socket.on("error", () => {});
      // The reason comes first; a stream that is not read has no end.
      socket.resume();
      socket.write("not JSON\n");
      await closed;
      expect(await hostDoes(place.mounted, "sys.truncate(path, 0n)")).toMatchObject({ errno: null });
    });

    it("leaves no socket behind, and refuses what it cannot do by name", async () => {
      const place = await serve(args);
      await close();
      expect(existsSync(place.socket)).toBe(false);
      await expect(FuseLeaseGuard.open(place.socket, { boundMs: 1 })).rejects.toThrow(
        /start one with --guard/,
      );
      const folders = ["--source", "/tmp", "--mountpoint", "/tmp"];
      for (const [args, says] of [
        [["--guard", "kernel-leases"], "unknown guard kernel-leases"],
        [["--guard", "fuse-lease"], "needs --lease-socket"],
        [
          ["--guard", "fuse-lease", "--lease-socket", "/x", "--transport", "libfuse"],
          "needs --transport devfuse",
        ],
        [["--guard", "fuse-lease", "--lease-socket", `/${"x".repeat(200)}`], "longer than 107 bytes"],
      ] as const) {
        const ended = await serveExpectingEnd([...folders, ...args]);
        expect([ended.code, ended.stderr]).toEqual([64, expect.stringContaining(says)]);
      }
    });
  });
}

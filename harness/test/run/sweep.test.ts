import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mountsBelow, mountTmpfs } from "../../../sys/src/index.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { builtPath, runDirectoryParent } from "../../src/paths.ts";
import { isRunDirectory, processesOf, sweep } from "../../src/run/sweep.ts";
import { childEnvironment } from "../../src/run/tag.ts";
import { caseFolder, eventually } from "../support/folders.ts";

const root = supportOf(thisMachine(), ["root"]);
const fuse = supportOf(thisMachine(), ["root", "fuse"]);

/** A process that ignores every request to end. */
function stubborn(directory: string): void {
  const program = 'process.on("SIGTERM", () => {}); setInterval(() => {}, 1000)';
  spawn(process.execPath, ["-e", program], {
    env: { ...process.env, ...childEnvironment(directory) },
    stdio: "ignore",
    detached: true,
  }).unref();
}

describe("isRunDirectory", () => {
  it.each([
    [join(runDirectoryParent, "daxfault-abc123"), true],
    [join(runDirectoryParent, "daxfault-abc123", "case-1"), true],
    [runDirectoryParent, false],
    ["/", false],
    [`${runDirectoryParent}/daxfault-abc123/../..`, false],
    ["daxfault-abc123", false],
    ["/home", false],
    [join(runDirectoryParent, "other"), false],
    [join(runDirectoryParent, "other", "daxfault-abc123"), false],
  ])("%s: %s", (path, expected) => {
    expect(isRunDirectory(path)).toBe(expected);
  });

  it("is asked before anything is killed or removed", async () => {
    await expect(sweep("/")).rejects.toThrow("/ is not a run directory");
  });
});

describe("sweep", () => {
  it("kills the processes of the folder and of folders below, not those of its neighbours", async () => {
    const folder = caseFolder();
    const neighbour = caseFolder();
    mkdirSync(join(folder, "case-1"));
    stubborn(folder);
    stubborn(join(folder, "case-1"));
    stubborn(neighbour);
    const started = () => processesOf(folder).length === 2 && processesOf(neighbour).length === 1;
    expect(await eventually(started)).toBe(true);
    expect(await sweep(join(folder, "case-1"))).toEqual([]);
    expect(processesOf(folder)).toHaveLength(1);
    expect(await sweep(folder)).toEqual([]);
    expect(processesOf(folder)).toEqual([]);
    expect(processesOf(neighbour)).toHaveLength(1);
  });

  it("removes the folder with all its files, and is content if it is gone already", async () => {
    const folder = caseFolder();
    mkdirSync(join(folder, "a", "b"), { recursive: true });
    writeFileSync(join(folder, "a", "b", "c"), "x");
    expect(await sweep(folder)).toEqual([]);
    expect(existsSync(folder)).toBe(false);
    expect(await sweep(folder)).toEqual([]);
  });

  it.skipIf(root.kind === "no")(
    "takes away mounts, stacked and nested ones too, though somebody uses them",
    async () => {
      const folder = caseFolder();
      const outer = join(folder, "outer");
      mkdirSync(outer);
      mountTmpfs(outer, 1n << 20n);
      mkdirSync(join(outer, "inner"));
      mountTmpfs(join(outer, "inner"), 1n << 20n);
      mountTmpfs(join(outer, "inner"), 1n << 20n);
      expect(mountsBelow(folder)).toHaveLength(3);
      expect(await sweep(folder)).toEqual([]);
      expect(mountsBelow(folder)).toEqual([]);
      expect(existsSync(folder)).toBe(false);
    },
  );

  it.skipIf(fuse.kind === "no")("ends what waits for a server of another's that never answers", async () => {
    const folder = caseFolder();
    const elsewhere = caseFolder();
    const mountpoint = join(folder, "mount");
    mkdirSync(mountpoint);
    writeFileSync(join(elsewhere, "file"), "x".repeat(4096));
    const faults = join(elsewhere, "faults.json");
    writeFileSync(faults, JSON.stringify([{ operation: "read", action: { kind: "hang" } }]));
    const main = builtPath("fs-server/src/serve-main.ts");
    // It carries no tag: the sweep does not kill it.
    const server = spawn(
      process.execPath,
      [main, "--source", elsewhere, "--mountpoint", mountpoint, "--faults", faults],
      { stdio: ["ignore", "pipe", "inherit"] },
    );
    const ended = once(server, "exit");
    try {
      await once(server.stdout, "data");
      const env = { ...process.env, ...childEnvironment(folder) };
      const read = [`if=${join(mountpoint, "file")}`, "of=/dev/null", "iflag=direct", "bs=4096", "count=1"];
      const waiting = spawn("dd", read, { env, stdio: "ignore" });
      const end = once(waiting, "exit");
      // A direct read waits without regard for signals, SIGKILL included (fuse_direct_IO(), fs/fuse/file.c).
      const isAsking = () => /^State:\s+D/m.test(readFileSync(`/proc/${waiting.pid}/status`, "utf8"));
      expect(await eventually(isAsking)).toBe(true);
      expect(await sweep(folder)).toEqual([]);
      await end;
      expect(mountsBelow(folder)).toEqual([]);
    } finally {
      server.kill("SIGKILL");
      await ended;
    }
  });
});

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

  it.skipIf(fuse.kind === "no")(
    "ends what waits for the server of a mount, which has stopped",
    async () => {
      const folder = caseFolder();
      const elsewhere = caseFolder();
      const mountpoint = join(folder, "mount");
      mkdirSync(mountpoint);
      // Carries no tag: what the sweep may not kill, like another's server.
      const server = spawn(
        process.execPath,
        [builtPath("fs-server/src/serve-main.ts"), "--source", elsewhere, "--mountpoint", mountpoint],
        { stdio: ["ignore", "pipe", "inherit"] },
      );
      const ended = once(server, "exit");
      try {
        await once(server.stdout, "data");
        server.kill("SIGSTOP");
        const environment = { ...process.env, ...childEnvironment(folder) };
        const waiting = spawn("stat", [join(mountpoint, "no-such-file")], {
          env: environment,
          stdio: "ignore",
        });
        const end = once(waiting, "exit");
        const isAsking = () => readFileSync(`/proc/${waiting.pid}/wchan`, "utf8") === "request_wait_answer";
        expect(await eventually(isAsking)).toBe(true);
        expect(await sweep(folder)).toEqual([]);
        await end;
        expect(mountsBelow(folder)).toEqual([]);
      } finally {
        server.kill("SIGKILL");
        await ended;
      }
    },
  );
});

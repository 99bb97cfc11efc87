/** What is read of real processes: no VMs, for the files and threads of any process are read alike. */
import { type ChildProcess, spawn } from "node:child_process";
import { chmodSync, mkdirSync, mkdtempSync, rmSync, truncateSync, unlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { collect } from "../../src/diagnose/collect.ts";
import { behindEndBytes, type GuestFile, type VmFacts } from "../../src/diagnose/facts.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { diagnose } from "../../src/diagnose/verdict.ts";
import { fileLines } from "../../src/diagnose/words.ts";
import { openMount } from "../../src/engines/mount.ts";
import { thisMachine } from "../../src/machine.ts";
import { packagePath } from "../../src/paths.ts";

const folder = mkdtempSync(join(tmpdir(), "daxfault-diagnose-"));
const children: ChildProcess[] = [];
const MEBIBYTE = 2 ** 20;

afterAll(() => {
  for (const child of children) child.kill("SIGKILL");
  rmSync(folder, { recursive: true });
});

/** A process that has mapped the files, and a memfd of a name. */
async function holder(paths: readonly string[]): Promise<number> {
  const program = packagePath("harness/test/support/mapping-process.mjs");
  const child = spawn(process.execPath, [program, ...paths], { stdio: ["pipe", "pipe", "inherit"] });
  children.push(child);
  await new Promise((resolve, reject) => {
    child.stdout.on("data", resolve);
    child.on("exit", () => reject(new Error("the process has ended")));
  });
  return child.pid ?? 0;
}

async function look(pid: number, host: ThisHost = new ThisHost()): Promise<VmFacts> {
  const setup = { kernel: "6", isRoot: true };
  const { facts } = await collect(host, { kind: "pid", pid }, setup);
  const [vm] = facts.vms;
  if (vm === undefined) throw new Error("nothing was seen");
  return vm;
}

const named = ({ files }: VmFacts, part: string): GuestFile => {
  const file = files.find(({ path }) => path.includes(part));
  if (file === undefined) throw new Error(`no ${part} among ${files.map(({ path }) => path).join(" ")}`);
  return file;
};

describe("a process's files", () => {
  it("are there with what lies behind their ends", async () => {
    const names = ["whole", "short", "gone", "odd\n\u001b[31m name (deleted)"];
    const paths = names.map((name) => join(folder, name));
    for (const path of paths) writeFileSync(path, Buffer.alloc(2 * MEBIBYTE, 1));
    const pid = await holder(paths);
    truncateSync(join(folder, "short"), MEBIBYTE + 1);
    unlinkSync(join(folder, "gone"));
    const vm = await look(pid);
    expect(behindEndBytes(named(vm, "/whole"))).toBe(0n);
    // The page with the end in it is whole.
    expect(behindEndBytes(named(vm, "/short"))).toBe(BigInt(MEBIBYTE - 4096));
    expect(named(vm, "/gone")).toMatchObject({ isDeleted: true, sizeBytes: BigInt(2 * MEBIBYTE) });
    expect(named(vm, "/memfd:guest ram")).toMatchObject({ isDeleted: true, sizeBytes: BigInt(MEBIBYTE) });
    expect(named(vm, "odd").path).toContain("\\012");
    expect(vm.vms).toBe(0);
    // Programs and libraries are no guest's memory.
    expect(vm.files.filter(({ path }) => /\.(so|node)/.test(path))).toEqual([]);
  });

  it("of a process that ends meanwhile are no reason to fail", async () => {
    const path = join(folder, "dies");
    writeFileSync(path, Buffer.alloc(MEBIBYTE));
    const pid = await holder([path]);
    const looking = look(pid);
    setTimeout(() => process.kill(pid, "SIGKILL"), 100);
    const vm = await looking;
    expect(vm.isGone).toBe(true);
    expect(diagnose(vm, []).verdict.kind).toBe("gone");
  });

  it("of no process are nothing", async () => {
    const { facts } = await collect(
      new ThisHost(),
      { kind: "pid", pid: 2 ** 22 },
      { kernel: "", isRoot: true },
    );
    expect(facts.vms).toEqual([]);
  });
});

const { fuse } = thisMachine().features;
const noMount = fuse.kind === "missing" ? fuse.reason : null;
describe.skipIf(noMount !== null)(`a file of a FUSE mount (${noMount ?? "devfuse"})`, () => {
  it("whose server is stopped is looked at without waiting for it", async () => {
    const [source, directory] = ["source", "case"].map((name) => join(folder, name));
    if (source === undefined || directory === undefined) throw new Error("no folder");
    for (const path of [source, directory]) {
      mkdirSync(path);
      chmodSync(path, 0o755);
    }
    writeFileSync(join(source, "file"), Buffer.alloc(MEBIBYTE, 1));
    const mount = await openMount({ sourceDirectory: source, directory, transport: "devfuse" });
    try {
      const path = join(mount.mountpoint, "file");
      const pid = await holder([path]);
      const live = named(await look(pid), path);
      expect(live.fileSystem).toMatchObject({ mountPoint: mount.mountpoint, server: { kind: "fuse" } });
      const server = live.fileSystem?.server;
      const servers = server?.kind === "fuse" ? server.processes : [];
      const own = servers.filter((one) => one.pid !== process.pid);
      expect(own.length).toBeGreaterThan(0);
      for (const one of own) process.kill(one.pid, "SIGSTOP");
      const begin = performance.now();
      const host = new ThisHost();
      const stopped = named(await look(pid, host), path);
      expect(stopped.sizeBytes).toBe(BigInt(MEBIBYTE));
      expect(host.stuck).toBe(0);
      expect(performance.now() - begin).toBeLessThan(5000);
      expect(fileLines(stopped).join(" ")).toMatch(/T\)|stopped/);
      for (const one of own) process.kill(one.pid, "SIGCONT");
    } finally {
      for (const child of children) child.kill("SIGKILL");
      await mount.close();
    }
  });
});

/** What rescue does, done to processes that have mapped files: no VMs, for files are grown alike whoever has mapped them. */
import { spawn, spawnSync } from "node:child_process";
import {
  existsSync,
  fstatSync,
  openSync,
  readFileSync,
  statSync,
  truncateSync,
  unlinkSync,
  writeFileSync,
} from "node:fs";
import { createServer } from "node:net";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { mountTmpfs, unmountLazily } from "../../../sys/src/index.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { qemuProgram } from "../../src/kernel/qemu.ts";
import { act } from "../../src/rescue/act.ts";
import { planOf, type RescueStep } from "../../src/rescue/plan.ts";
import { qmpSocketsOf } from "../../src/rescue/qmp.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { diagnosisOf, type MappingProcess, startMapping } from "../support/mapping.ts";
import { noVm } from "../support/vm.ts";

const BYTES = 2 * 2 ** 20;
const QEMU_MS = 20_000;
const host = new ThisHost();

/** Mapped whole, and cut. */
async function cutFile(path: string): Promise<MappingProcess> {
  writeFileSync(path, Buffer.alloc(BYTES, 1));
  const mapping = await startMapping([path]);
  truncateSync(path, 4096);
  return mapping;
}

async function growthOf(
  pid: number,
): Promise<{ readonly step: RescueStep; readonly startTicks: number | null }> {
  const diagnosis = await diagnosisOf(pid);
  const step = planOf(diagnosis).steps.find(({ kind }) => kind === "grow");
  if (step === undefined) throw new Error("nothing is too short");
  return { step, startTicks: diagnosis.vm.startTicks };
}

const isRoot = process.getuid?.() === 0;

describe.skipIf(!isRoot)("growing what is mapped", () => {
  it("gives zeros where the data was, and no access ends the process any more", async () => {
    const path = join(caseFolder(), "guest ram");
    const mapping = await cutFile(path);
    const { step, startTicks } = await growthOf(mapping.pid);
    const [done] = await act(host, step, startTicks);
    expect(done).toMatchObject({ kind: "done", text: expect.stringContaining(`has ${BYTES} bytes again`) });
    const content = readFileSync(path);
    expect(content.length).toBe(BYTES);
    expect(content.subarray(0, 4096).every((byte) => byte === 1)).toBe(true);
    expect(content.subarray(4096).every((byte) => byte === 0)).toBe(true);
    expect(await mapping.touch()).toBe("touched");
  });

  it("is what the process needed: without it the same access ends it", async () => {
    const mapping = await cutFile(join(caseFolder(), "guest ram"));
    expect(await mapping.touch()).toBe("died");
  });

  it("does nothing where somebody has grown it meanwhile, and never makes it shorter", async () => {
    const path = join(caseFolder(), "guest ram");
    const { pid } = await cutFile(path);
    const { step, startTicks } = await growthOf(pid);
    truncateSync(path, 2 * BYTES);
    expect(await act(host, step, startTicks)).toMatchObject([{ kind: "nothing" }]);
    expect(statSync(path).size).toBe(2 * BYTES);
  });

  it("finds a file that was deleted, and one that another has replaced", async () => {
    for (const replace of [false, true]) {
      const path = join(caseFolder(), "guest ram");
      const mapping = await cutFile(path);
      const fd = openSync(path, "r");
      unlinkSync(path);
      if (replace) writeFileSync(path, "other");
      const { step, startTicks } = await growthOf(mapping.pid);
      expect(await act(host, step, startTicks)).toMatchObject([{ kind: "done" }]);
      expect(fstatSync(fd).size).toBe(BYTES);
      expect(existsSync(path) ? readFileSync(path, "utf8") : null).toBe(replace ? "other" : null);
      expect(await mapping.touch()).toBe("touched");
    }
  });

  it("says so where the process has ended meanwhile", async () => {
    const mapping = await cutFile(join(caseFolder(), "guest ram"));
    const { step, startTicks } = await growthOf(mapping.pid);
    await mapping.end();
    expect(await act(host, step, startTicks)).toMatchObject([
      { kind: "failed", text: expect.stringMatching(/ENOENT: the VM's process has ended/) },
    ]);
  });

  it("gives a hole on a file system that is full, and says what that means", async () => {
    const folder = caseFolder();
    mountTmpfs(folder, BigInt(4 * 2 ** 20));
    onTestFinished(() => void unmountLazily(folder));
    const path = join(folder, "guest ram");
    const { pid } = await cutFile(path);
    const { step, startTicks } = await growthOf(pid);
    spawnSync("dd", ["if=/dev/zero", `of=${join(folder, "filler")}`, "bs=4096", "count=4096"]);
    const [done] = await act(host, step, startTicks);
    expect(done).toMatchObject({ kind: "done", text: expect.stringMatching(/has room for 0 bytes alone/) });
    expect(statSync(path).size).toBe(BYTES);
  });

  it("says so on a read-only file system", async () => {
    const folder = caseFolder();
    mountTmpfs(folder, BigInt(16 * 2 ** 20));
    onTestFinished(() => void unmountLazily(folder));
    const path = join(folder, "guest ram");
    writeFileSync(path, Buffer.alloc(BYTES, 1));
    const mapping = await startMapping([]);
    await mapping.mapReadOnly(path);
    truncateSync(path, 4096);
    expect(spawnSync("mount", ["-o", "remount,ro", folder]).status).toBe(0);
    const { step, startTicks } = await growthOf(mapping.pid);
    expect(await act(host, step, startTicks)).toMatchObject([
      { kind: "failed", text: expect.stringMatching(/EROFS: its file system is read-only/) },
    ]);
  });
});

/** Speaks QMP as QEMU does, as far as it goes. */
function fakeQemu(path: string, onQuit: () => void, isSilent = false): void {
  const server = createServer((socket) => {
    if (isSilent) return;
    socket.write('{"QMP": {"version": {}, "capabilities": []}}\r\n');
    socket.on("data", (bytes) => {
      if (bytes.toString().includes("qmp_capabilities")) socket.write('{"return": {}}\r\n');
      if (bytes.toString().includes('"quit"')) {
        socket.write('{"return": {}}\r\n');
        onQuit();
      }
    });
  });
  server.listen(path);
  onTestFinished(() => void server.close());
}

describe("ending a VM", () => {
  it("asks QEMU's monitor", async () => {
    const path = join(caseFolder(), "qmp");
    const mapping = await startMapping([]);
    fakeQemu(path, () => void mapping.end());
    const done = await act(host, { kind: "stop", pid: mapping.pid, sockets: [path] }, null);
    expect(done).toMatchObject([
      { kind: "done", text: `QEMU was asked to quit, at ${path}` },
      { kind: "done", text: `process ${mapping.pid} has ended` },
    ]);
  });

  it.skipIf(noVm !== null)("ends QEMU itself, which closes its monitor behind it", async () => {
    const path = join(caseFolder(), "qmp");
    const words = ["-machine", "none", "-nodefaults", "-display", "none"];
    const qemu = spawn(qemuProgram, [...words, "-qmp", `unix:${path},server=on,wait=off`], {
      stdio: "ignore",
    });
    onTestFinished(() => void qemu.kill("SIGKILL"));
    expect(await eventually(() => existsSync(path), QEMU_MS)).toBe(true);
    const pid = qemu.pid ?? 0;
    const sockets = qmpSocketsOf(readFileSync(`/proc/${pid}/cmdline`, "utf8").split("\0"));
    expect(await act(host, { kind: "stop", pid, sockets }, null)).toMatchObject([
      { kind: "done", text: `QEMU was asked to quit, at ${path}` },
      { kind: "done", text: `process ${pid} has ended` },
    ]);
    await eventually(() => qemu.exitCode !== null);
    expect([qemu.exitCode, existsSync(path)]).toEqual([0, false]);
  });

  it("sends SIGTERM where the monitor is another's, or is not there", async () => {
    const folder = caseFolder();
    const [silent, none] = [join(folder, "silent"), join(folder, "none")];
    fakeQemu(silent, () => {}, true);
    const mapping = await startMapping([]);
    const done = await act(host, { kind: "stop", pid: mapping.pid, sockets: [silent, none] }, null);
    expect(done).toMatchObject([
      { kind: "failed", text: expect.stringMatching(/no greeting: another client/) },
      { kind: "failed", text: expect.stringMatching(/ENOENT/) },
      { kind: "done", text: `SIGTERM was sent to process ${mapping.pid}` },
      { kind: "done" },
    ]);
  });

  it("leaves a later process of the same number alone", async () => {
    const { pid, touch } = await startMapping([]);
    const done = await act(host, { kind: "stop", pid, sockets: [] }, 1);
    expect(done).toMatchObject([{ kind: "nothing", text: `process ${pid} has ended by now` }]);
    expect(await touch()).toBe("touched");
  });
});

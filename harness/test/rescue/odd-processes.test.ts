/** Rescuing processes of other users and namespaces, memory without a name, names that are an attack, and what changes meanwhile. */
import { spawn } from "node:child_process";
import { once } from "node:events";
import { statSync, truncateSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { processState } from "../../../sys/src/index.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import type { Diagnosis } from "../../src/diagnose/verdict.ts";
import { visibleData } from "../../src/report/encode.ts";
import { act } from "../../src/rescue/act.ts";
import { lookAfter } from "../../src/rescue/after.ts";
import { planOf, type RescueStep, stepText } from "../../src/rescue/plan.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { childOf, diagnosisOf, fileForAll, startMapping, strangers } from "../support/mapping.ts";

const BYTES = 2 * 2 ** 20;
const host = new ThisHost();

function growthIn(diagnosis: Diagnosis): Extract<RescueStep, { kind: "grow" }> {
  for (const step of planOf(diagnosis).steps) if (step.kind === "grow") return step;
  throw new Error("nothing is too short");
}

const newFile = (name = "guest ram"): string => fileForAll(name, BYTES);

const isRoot = process.getuid?.() === 0;
describe.skipIf(!isRoot)("rescuing a process", () => {
  it("of another user, in namespaces of mounts and PIDs of its own, grows its file", async () => {
    const path = newFile();
    const { pid, touch } = await startMapping([path], strangers);
    truncateSync(path, 4096);
    const diagnosis = await diagnosisOf(childOf(pid));
    expect(await act(host, growthIn(diagnosis), diagnosis.vm.startTicks)).toMatchObject([{ kind: "done" }]);
    expect(statSync(path).size).toBe(BYTES);
    expect(await touch()).toBe("touched");
  });

  it("finds a file that no path of this mount namespace leads to", async () => {
    const folder = caseFolder();
    const hidden = `mount -t tmpfs none ${folder} && dd if=/dev/zero of=${folder}/ram bs=4096 count=512 status=none`;
    const within = ["unshare", "--mount", "sh", "-c", `${hidden} && exec "$@"`, "sh"];
    const { pid, touch } = await startMapping([join(folder, "ram")], within);
    truncateSync(`/proc/${pid}/root${folder}/ram`, 4096);
    const diagnosis = await diagnosisOf(pid);
    expect(await act(host, growthIn(diagnosis), diagnosis.vm.startTicks)).toMatchObject([{ kind: "done" }]);
    expect(statSync(`/proc/${pid}/root${folder}/ram`).size).toBe(BYTES);
    expect(await touch()).toBe("touched");
  });

  it("grows memory without a name, and says so where its owner has sealed it", async () => {
    const mapping = await startMapping([]);
    await mapping.cutMemory();
    const diagnosis = await diagnosisOf(mapping.pid);
    const growth = growthIn(diagnosis);
    expect(stepText(growth)).toMatch(/^grow \/memfd:guest ram from 4096 to 1048576 bytes$/);
    expect(await act(host, growth, diagnosis.vm.startTicks)).toMatchObject([{ kind: "done" }]);
    expect(await mapping.touch()).toBe("touched");
    await mapping.cutMemory();
    await mapping.sealMemory();
    expect(await act(host, growth, diagnosis.vm.startTicks)).toMatchObject([
      { kind: "failed", text: expect.stringMatching(/EPERM: .*sealed/) },
    ]);
  });

  it("whose file has an attack for a name does what it says, in words that are text", async () => {
    const path = newFile("a\n\u001b]0;x\u0007\u001b[31mred\u009b (deleted)");
    const { pid } = await startMapping([path]);
    truncateSync(path, 4096);
    const diagnosis = await diagnosisOf(pid);
    const growth = growthIn(diagnosis);
    const done = await act(host, growth, diagnosis.vm.startTicks);
    expect(done).toMatchObject([{ kind: "done" }]);
    expect(statSync(path).size).toBe(BYTES);
    for (const text of visibleData([stepText(growth), ...done.map((one) => one.text)])) {
      expect(text).toContain("red");
      // biome-ignore lint/suspicious/noControlCharactersInRegex: none of them may be there
      expect(text).not.toMatch(/[\u0000-\u001f\u007f-\u009f]/);
    }
  });

  it("that has ended since the step is said to have ended", async () => {
    const mapping = await startMapping([newFile()]);
    const { vm } = await diagnosisOf(mapping.pid);
    await mapping.end();
    expect(await lookAfter(host, vm)).toMatchObject({ goesOn: false, verdict: null });
  });
});

describe("letting a process go on", () => {
  const step = (pid: number): RescueStep => ({ kind: "continue", processes: [{ pid, name: "sleep" }] });
  async function sleeper(): Promise<number> {
    const child = spawn("sleep", ["100"], { stdio: "ignore" });
    onTestFinished(() => void child.kill("SIGKILL"));
    await once(child, "spawn");
    return child.pid ?? 0;
  }

  it("is done where it is stopped", async () => {
    const pid = await sleeper();
    process.kill(pid, "SIGSTOP");
    expect(await eventually(() => processState(pid) === "stopped")).toBe(true);
    expect(await act(host, step(pid), null)).toEqual([
      { kind: "done", text: `SIGCONT was sent to process ${pid}` },
    ]);
    expect(await eventually(() => processState(pid) !== "stopped")).toBe(true);
  });

  it("is not done where it is stopped no more, or has ended: the number may be another's", async () => {
    const pid = await sleeper();
    expect(await act(host, step(pid), null)).toEqual([
      { kind: "nothing", text: `process ${pid} is not stopped any more` },
    ]);
    expect(await act(host, step(2 ** 22), null)).toEqual([
      { kind: "nothing", text: `process ${2 ** 22} has ended by now` },
    ]);
  });
});

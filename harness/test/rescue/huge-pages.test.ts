/** A file of huge pages that a process has mapped, looked at, watched over and grown again: the pool of huge pages is the machine's. */
import { spawnSync } from "node:child_process";
import { readFileSync, statSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it, onTestFinished } from "vitest";
import { collect } from "../../src/diagnose/collect.ts";
import { behindEndBytes, type GuestFile } from "../../src/diagnose/facts.ts";
import { ThisHost } from "../../src/diagnose/this-host.ts";
import { diagnose } from "../../src/diagnose/verdict.ts";
import { act } from "../../src/rescue/act.ts";
import { planOf } from "../../src/rescue/plan.ts";
import { caseFolder } from "../support/folders.ts";
import { startMapping } from "../support/mapping.ts";
import { protecting } from "../support/protecting.ts";

const HUGE_BYTES = 2 * 2 ** 20;
const BYTES = 2 * HUGE_BYTES;
const POOL = "/proc/sys/vm/nr_hugepages";

function hugeFile(): string {
  const before = readFileSync(POOL, "utf8").trim();
  onTestFinished(() => writeFileSync(POOL, before));
  writeFileSync(POOL, String(Number(before) + BYTES / HUGE_BYTES));
  const folder = caseFolder();
  const mounted = spawnSync("mount", ["-t", "hugetlbfs", "-o", "pagesize=2M", "none", folder]);
  expect(mounted.status, String(mounted.stderr)).toBe(0);
  onTestFinished(() => void spawnSync("umount", ["-l", folder]));
  const path = join(folder, "guest ram");
  writeFileSync(path, "");
  truncateSync(path, BYTES);
  return path;
}

const isRoot = process.getuid?.() === 0;
describe.skipIf(!isRoot)("a file of huge pages", () => {
  it("is not protected, and that is said; cut, it is seen so, and grown again", async () => {
    const path = hugeFile();
    const host = new ThisHost();
    const { pid, touch } = await startMapping([path]);
    const looked = async () => {
      const { facts } = await collect(host, { kind: "pid", pid }, { kernel: "6", isRoot: true });
      const [vm] = facts.vms;
      const file = vm?.files.find((one): one is GuestFile => one.path === path);
      if (vm === undefined || file === undefined) throw new Error("nothing was seen");
      return { vm, file };
    };
    expect((await looked()).file).toMatchObject({
      sizeBytes: BigInt(BYTES),
      fileSystem: { type: "hugetlbfs" },
    });
    const { said, stop } = await protecting({ pids: [pid] });
    expect(await said("file", (one) => one.path === path)).toMatchObject({ means: "noticed" });
    truncateSync(path, HUGE_BYTES);
    expect(await said("shorter")).toMatchObject({ path, fromBytes: BYTES, toBytes: HUGE_BYTES });
    await stop();
    const { vm, file } = await looked();
    expect(behindEndBytes(file)).toBe(BigInt(BYTES - HUGE_BYTES));
    const step = planOf(diagnose(vm, [])).steps.find(({ kind }) => kind === "grow");
    if (step === undefined) throw new Error("nothing is too short");
    expect(await act(host, step, vm.startTicks)).toMatchObject([{ kind: "done" }]);
    expect(statSync(path).size).toBe(BYTES);
    expect(await touch()).toBe("touched");
  });
});

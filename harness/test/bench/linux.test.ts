/**
 * Linux on our own VMM, inside a kernel VM: a Debian kernel to its init, and what becomes of a process and of its kernel when
 * the memory behind a DAX file is cut under it. Minutes under emulation: only with `npm run test:long`.
 *
 * What is expected was measured before, with a VMM in C that shares nothing with ours, for Linux 6.12.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { beforeAll, describe, expect, it } from "vitest";
import type { LinuxSceneEvent, LinuxSceneOptions } from "../../src/bench/linux-main.ts";
import { obtainKernel } from "../../src/kernel/cache.ts";
import { obtainGuest } from "../../src/kernel/guest.ts";
import { requireQemu } from "../../src/kernel/qemu.ts";
import { startKernelVm } from "../../src/kernel/vm.ts";
import { builtPath } from "../../src/paths.ts";
import { openRunDirectory } from "../../src/run/directory.ts";
import { noVm, VM_KERNEL } from "../support/vm.ts";

const BOUND_MS = 900_000;
/** By the clock inside, which may run fast on a busy machine. */
const LIFE_MS = 600_000;
const MARK = "@@ ";

const instructions = "load,store,atomic,movs,fetch";
const systemCalls = "copy-in,copy-out,path";

type Files = Pick<LinuxSceneOptions, "kernel" | "initrd" | "image">;

function scenesOf(files: Files): readonly LinuxSceneOptions[] {
  const plain: LinuxSceneOptions = {
    ...files,
    name: "",
    commandLine: "",
    ramMiB: 256,
    cpus: 1,
    vendor: null,
    asyncPageFaults: "offered",
    machineCheckRecovery: "offered",
    isFenced: true,
    policy: "stop",
    pageFaultForm: "present-read",
    lifeMs: LIFE_MS,
  };
  const scene = (name: string, accesses: string, changes: Partial<LinuxSceneOptions>) => ({
    ...plain,
    ...changes,
    name,
    commandLine: `scene=${accesses}`,
  });
  return [
    { ...plain, name: "boot", image: null },
    { ...plain, name: "boot four", image: null, cpus: 4 },
    scene("stop", "load", {}),
    scene("pf", `${instructions},${systemCalls},read,write`, { policy: "inject-pf" }),
    scene("mce", `${instructions},${systemCalls}`, { policy: "inject-mce" }),
    scene("mce read", "read", { policy: "inject-mce" }),
    scene("mce without recovery", "load", { policy: "inject-mce", machineCheckRecovery: "hidden" }),
    // With Intel's rules a machine check is for every vCPU.
    scene("mce Intel", "load", { policy: "inject-mce", vendor: "intel", cpus: 2 }),
    scene("zeros", "load,read", { policy: "remap-zero" }),
    scene("loop", "load", { isFenced: false }),
  ];
}

/** Everything that the VM needs, in a folder that it sees at the same path. */
async function prepare(directory: string): Promise<Files> {
  const version = VM_KERNEL.slice("debian:".length);
  const program = join(directory, "scene");
  const source = fileURLToPath(new URL("../support/linux-scene.c", import.meta.url));
  execFileSync("gcc", ["-O1", "-static", "-Wall", "-Wextra", "-Werror", "-o", program, source]);
  const guest = await obtainGuest({
    spec: { kind: "debian-version", text: VM_KERNEL, version },
    modulesDirectory: null,
    program: readFileSync(program),
    signal: new AbortController().signal,
  });
  const kernel = join(directory, "vmlinux");
  writeFileSync(kernel, guest.image);
  const initrd = join(directory, "initrd");
  writeFileSync(initrd, guest.initrd);
  const files = join(directory, "files");
  mkdirSync(files);
  writeFileSync(join(files, "file"), Buffer.alloc(64 * 4096, "A"));
  const persistent = join(directory, "image");
  execFileSync("mkfs.ext4", ["-q", "-b", "4096", "-O", "^has_journal", "-d", files, persistent, "32M"]);
  return { kernel, initrd, image: persistent };
}

/** Plays all scenes in one kernel VM with one CPU. */
async function play(directory: string): Promise<readonly LinuxSceneEvent[]> {
  const version = VM_KERNEL.slice("debian:".length);
  const kernel = await obtainKernel({ kind: "debian-version", text: VM_KERNEL, version }, null);
  const list = join(directory, "scenes.json");
  writeFileSync(list, JSON.stringify(scenesOf(await prepare(directory))));
  const work = join(directory, "vm");
  mkdirSync(work);
  const vm = startKernelVm({
    kernel,
    qemu: requireQemu(),
    directory: work,
    cpus: 1,
    program: {
      command: [process.execPath, builtPath("harness/src/bench/linux-main.ts"), list],
      environment: { PATH: "/usr/sbin:/usr/bin:/sbin:/bin", HOME: "/root" },
    },
    onMessage: () => {},
  });
  const limit = setTimeout(() => void vm.kill(), BOUND_MS - 60_000);
  await vm.ended;
  clearTimeout(limit);
  return vm.console().flatMap(eventOf);
}

/** The kernel's own messages go to the same console, now and then into the middle of a line: such a line is lost. */
function eventOf(line: string): readonly LinuxSceneEvent[] {
  const at = line.indexOf(MARK);
  if (at < 0) return [];
  try {
    return [JSON.parse(line.slice(at + MARK.length)) as LinuxSceneEvent];
  } catch {
    return [];
  }
}

describe.skipIf(noVm !== null)(`Linux on our own VMM (${noVm ?? VM_KERNEL})`, () => {
  let events: readonly LinuxSceneEvent[] = [];

  beforeAll(async () => {
    const directory = openRunDirectory();
    try {
      events = await play(directory.path);
    } finally {
      await directory.close();
    }
  }, BOUND_MS);

  const lines = (scene: string): readonly string[] =>
    events.flatMap((one) => (one.scene === scene && one.type === "line" ? [one.text] : []));
  const result = (scene: string, access: string, when: "cut" | "grown" = "cut"): string =>
    lines(scene).find((text) => text.startsWith(`scene ${access} ${when}: `)) ?? "no result";
  const ending = (scene: string): string =>
    events.flatMap((one) => (one.scene === scene && one.type === "ended" ? [one.how] : []))[0] ?? "none";
  const all = (list: string): readonly string[] => list.split(",");

  it("boots to its only program, with one vCPU and with four, and turns itself off", () => {
    for (const scene of ["boot", "boot four"]) {
      expect(lines(scene), scene).toContain("scene up");
      expect(ending(scene), scene).toBe("power-off");
    }
  });

  it("gives the VMM its -EFAULT exit at the fence, at the access that the guest made", () => {
    const faults = events.flatMap((one) => (one.scene === "stop" && one.type === "fault" ? [one] : []));
    expect(faults).toHaveLength(1);
    expect(faults[0]).toMatchObject({ cpl: 3, detail: expect.stringContaining("the policy is to stop") });
    expect(faults[0]?.gva).not.toBe("0x0");
  });

  it("has SIGSEGV with the right address for a #PF, and EFAULT in its own copies", () => {
    for (const access of all(instructions)) {
      expect(result("pf", access), access).toContain("signal SEGV code 2 address page+0");
    }
    for (const access of ["copy-in", "copy-out", "path", "read"]) {
      expect(result("pf", access), access).toContain("result -1 EFAULT");
    }
    expect(ending("pf")).toBe("power-off");
    expect(lines("pf")).toContain("scene bystander: alive");
  });

  it("has SIGBUS without an address for a machine check in user mode, with AMD's recovery bits", () => {
    for (const access of all("load,store,atomic,movs")) {
      expect(result("mce", access), access).toContain("signal BUS code 128");
      expect(result("mce", access, "grown"), access).toContain("result");
    }
  });

  it("has SIGBUS with the address for a machine check in a copy from user memory", () => {
    expect(result("mce", "copy-in")).toMatch(/signal BUS code 4 address page\+/);
  });

  it("dies of a machine check in a copy to user memory or of its own, and without the recovery bits of any", () => {
    expect(result("mce", "copy-out")).toBe("no result");
    for (const scene of ["mce", "mce read", "mce without recovery"]) {
      const text = lines(scene).join("\n");
      expect(text, scene).toContain("Kernel panic - not syncing");
      expect(text, scene).toMatch(/machine check/i);
    }
  });

  // KVM on AMD lets an "Intel" guest have no recovery (svm_setup_mce()): the task tries again until the VMM gives up.
  it("is left by both vCPUs of an Intel guest, who wait for each other in its handler", () => {
    const faults = events.filter((one) => one.scene === "mce Intel" && one.type === "fault");
    expect(faults.length).toBeGreaterThan(1);
    expect(lines("mce Intel").join("\n")).not.toContain("Kernel panic");
    expect(ending("mce Intel")).not.toBe("reset");
  });

  it("reads zeros where the VMM puts them", () => {
    expect(result("zeros", "load")).toContain("result 0");
    expect(result("zeros", "read")).toContain("result 64");
  });

  it("loops without a fence, which KVM's own counter proves", () => {
    expect(events.some((one) => one.scene === "loop" && one.type === "looping")).toBe(true);
    expect(ending("loop")).toBe("looping");
  });
});

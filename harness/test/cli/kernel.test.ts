/** `run --kernel`: a VM comes up, or it is said why not; and however the run ends, nothing of it is left. */
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mountsBelow, mountTmpfs } from "../../../sys/src/index.ts";
import { obtainKernel } from "../../src/kernel/cache.ts";
import { neededModules } from "../../src/kernel/initramfs.ts";
import { findQemu } from "../../src/kernel/qemu.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { processesOf } from "../../src/run/sweep.ts";
import { cli, jsonLines, startCli } from "../support/cli.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { bootImage, IMAGE_BYTES } from "../support/kernels.ts";
import { noVm, VM_KERNEL, VM_TEST_BOUND_MS } from "../support/vm.ts";

/** The run's processes by their program: `qemu-system-x86` is all that the kernel keeps of QEMU's name. */
function programsOf(directory: string): ReadonlyMap<number, string> {
  const programs = new Map<number, string>();
  for (const pid of processesOf(directory)) {
    try {
      programs.set(pid, readFileSync(`/proc/${pid}/comm`, "latin1").trim());
    } catch {
      // Ended meanwhile.
    }
  }
  return programs;
}

const qemuOf = (directory: string): number | undefined =>
  [...programsOf(directory)].find(([, program]) => program.startsWith("qemu-system"))?.[0];

/** A kernel that says this and resets its machine. */
function dyingKernel(says: string): string {
  const path = join(caseFolder(), "bzImage");
  writeFileSync(path, bootImage({ says }));
  return path;
}

const PANIC = "Kernel panic - not syncing: of a test\r\n";

describe.skipIf(findQemu() === null)("kernels that cannot be had or do not come up (need QEMU)", () => {
  const runKernels = (kernels: readonly string[], more: readonly string[], env = {}) => {
    const options = kernels.flatMap((kernel) => ["--kernel", kernel]);
    return cli(["run", "hang-without-apf", ...options, ...more, "--json", "-"], { env });
  };

  it("say why, each of them, and everything else of the command runs", async () => {
    const truncated = dyingKernel("");
    truncateSync(truncated, 4000);
    const panics = dyingKernel(PANIC);
    const { code, stdout } = await runKernels([truncated, panics], ["--engine", "model"]);
    const cases = jsonLines(stdout).filter(({ type }) => type === "case");
    const inconclusive = (reason: string) => ({ kind: "inconclusive", cause: "engine-error", reason });
    expect(cases.map(({ engine, verdict }) => [engine, verdict])).toMatchObject([
      ["model", { kind: "pass" }],
      [
        `kernel:${truncated}`,
        inconclusive(
          `${truncated} is truncated: its header speaks of ${IMAGE_BYTES} bytes, the file has 4000`,
        ),
      ],
      [
        `kernel:${panics}`,
        inconclusive(`${panics} did not come up: the kernel died: Kernel panic - not syncing: of a test`),
      ],
    ]);
    expect(code).toBe(2);
  });

  it.skipIf(supportOf(thisMachine(), ["root"]).kind === "no")(
    "have no room for their first root file system (needs root, for a small one)",
    async () => {
      const small = caseFolder();
      mountTmpfs(small, 4n << 10n);
      const { code, stdout } = await runKernels([dyingKernel(PANIC)], [], { TMPDIR: small });
      const [only] = jsonLines(stdout).filter(({ type }) => type === "case");
      expect(only?.verdict).toMatchObject({
        reason: expect.stringMatching(
          /^the first root file system of \S+: ENOSPC: no space left on device, .*: the file system is full, .*Next: free some there; temporary files lie in "\S+" \(TMPDIR\)$/,
        ),
      });
      expect(code).toBe(2);
    },
  );
});

describe("a kernel that is not there", () => {
  it("is a usage error: nothing runs", async () => {
    const lost = join(caseFolder(), "bzImage");
    const { code, stdout, stderr } = await cli(["run", "hang-without-apf", "--kernel", lost]);
    expect([code, stdout]).toEqual([64, ""]);
    expect(stderr).toContain(`--kernel ${lost}: ENOENT: no such file or directory`);
  });
});

describe("a machine without QEMU", () => {
  it("runs nothing, and says what to install", async () => {
    const { code, stdout } = await cli(["run", "hang-without-apf", "--kernel", "host"], {
      env: { PATH: caseFolder() },
    });
    expect(code).toBe(3);
    expect(stdout).toContain("there is no qemu-system-x86_64 to boot a kernel in");
    expect(stdout).toContain("fix: sudo apt-get install qemu-system-x86");
  });
});

describe.skipIf(noVm !== null)(`a run in a VM (${noVm ?? VM_KERNEL})`, { timeout: VM_TEST_BOUND_MS }, () => {
  const BOOT_BOUND_MS = 120_000;
  const END_BOUND_MS = 8000;

  /** Starts a run and waits until QEMU is there and what the run has printed is what is waited for. */
  async function startRun(until: RegExp) {
    const running = startCli(["run", "hang-without-apf", "--kernel", VM_KERNEL]);
    let text = "";
    running.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    const directory = (): string => /files +(\S+) on/.exec(text)?.[1] ?? "";
    const isReady = () => directory() !== "" && qemuOf(directory()) !== undefined && until.test(text);
    expect(await eventually(isReady, BOOT_BOUND_MS)).toBe(true);
    return { running, directory: directory() };
  }

  async function expectNothingLeft(directory: string): Promise<void> {
    const isGone = (): boolean =>
      !existsSync(directory) && processesOf(directory).length === 0 && mountsBelow(directory).length === 0;
    expect(await eventually(isGone, END_BOUND_MS)).toBe(true);
  }

  it.each([
    ["Ctrl-C while it boots", "SIGINT", /files/, 130],
    ["Ctrl-C when it is up", "SIGINT", /up in/, 130],
    ["SIGTERM when it is up", "SIGTERM", /up in/, 143],
    ["kill -9 while it boots", "SIGKILL", /files/, undefined],
    ["kill -9 when it is up", "SIGKILL", /up in/, undefined],
  ] as const)("leaves nothing after %s", async (_what, signal, until, code) => {
    const { running, directory } = await startRun(until);
    const sentAtMs = performance.now();
    running.kill(signal);
    expect((await running.ended).code).toBe(code);
    expect(performance.now() - sentAtMs).toBeLessThan(END_BOUND_MS);
    await expectNothingLeft(directory);
  });

  it("goes on after a kernel that does not come up, and with another boot when QEMU is killed in the middle of a case", async () => {
    const names = ["load-after-truncate", "store-after-truncate", "hang-without-apf"];
    const kernels = ["--kernel", dyingKernel(PANIC), "--kernel", VM_KERNEL];
    const running = startCli(["run", ...names, "-p", "apf-loop", ...kernels, "--jobs", "1", "--json", "-"]);
    let text = "";
    running.stdout.on("data", (chunk: Buffer) => {
      text += chunk.toString();
    });
    // The first case is told when it has ended: the second begins at once.
    const ended = new RegExp(`"type":"case".*"engine":"kernel:${VM_KERNEL}"`);
    expect(await eventually(() => ended.test(text), BOOT_BOUND_MS)).toBe(true);
    const directory = String(jsonLines(text.slice(0, text.indexOf("\n")))[0]?.runDirectory);
    process.kill(qemuOf(directory) ?? Number.NaN, "SIGKILL");
    const { code, stdout } = await running.ended;
    const lines = jsonLines(stdout);
    const all = lines.filter(({ type }) => type === "case");
    const cases = all.filter(({ engine }) => engine === `kernel:${VM_KERNEL}`);
    expect(all).toHaveLength(2 * names.length);
    expect(cases.map(({ verdict }) => verdict)).toMatchObject([
      { kind: "pass" },
      {
        kind: "inconclusive",
        cause: "engine-error",
        reason: expect.stringMatching(/^QEMU was killed by SIGKILL/),
      },
      { kind: "pass" },
    ]);
    expect(code).toBe(2);
    const boots = cases.flatMap(
      ({ attestation }) => /"bootId":"([^"]*)"/.exec(JSON.stringify(attestation))?.[1] ?? [],
    );
    expect(new Set(boots).size).toBe(2);
    const consoles = lines.filter(({ type, name }) => type === "console" && name === `kernel:${VM_KERNEL}`);
    expect(consoles).toHaveLength(1);
    const said = JSON.stringify(consoles);
    expect(boots.map((boot, index) => said.includes(`==== boot ${index + 1} of 2: ${boot} ====`))).toEqual([
      true,
      true,
    ]);
    await expectNothingLeft(directory);
  });
});

describe.skipIf(noVm !== null)(
  `an image in a file (${noVm ?? VM_KERNEL})`,
  { timeout: VM_TEST_BOUND_MS },
  () => {
    /** The image and the modules of the kernel, as `make modules_install` lays them out, those left out that are named. */
    async function installed(without: readonly string[]) {
      const version = VM_KERNEL.slice("debian:".length);
      const kernel = await obtainKernel({ kind: "debian-version", text: VM_KERNEL, version }, null);
      const root = caseFolder();
      const tree = join(root, "lib/modules", String(kernel.release));
      mkdirSync(join(tree, "kernel"), { recursive: true });
      for (const { name, bytes } of kernel.modules) {
        if (!without.includes(name)) writeFileSync(join(tree, "kernel", `${name}.ko`), bytes);
      }
      const builtIn = neededModules.filter((needed) => !kernel.modules.some(({ name }) => name === needed));
      writeFileSync(join(tree, "modules.builtin"), builtIn.map((name) => `kernel/${name}.ko\n`).join(""));
      return { image: kernel.imagePath, root, tree };
    }

    const args = ["run", "hang-without-apf", "--json", "-", "--kernel"];

    it.each([
      ["lib/modules/RELEASE", "tree"],
      ["INSTALL_MOD_PATH", "root"],
    ] as const)("boots with the modules of %s", async (_what, which) => {
      const { image, ...folders } = await installed([]);
      const { code, stdout } = await cli([...args, image, "--modules", folders[which]]);
      const [only] = jsonLines(stdout).filter(({ type }) => type === "case");
      expect(only).toMatchObject({
        engine: `kernel:${image}`,
        verdict: { kind: "pass" },
        replay: `daxfault run hang-without-apf --proposal apf-loop --kernel ${image} --modules ${folders[which]}`,
      });
      expect(code).toBe(0);
    });

    it("says that it has no KVM", async () => {
      const { image, root } = await installed(["kvm_amd", "kvm_intel"]);
      const { code, stdout } = await cli([...args, image, "--modules", root]);
      const [only] = jsonLines(stdout).filter(({ type }) => type === "case");
      const reason =
        /has no KVM: kvm_(amd|intel) is neither in the image nor among its modules \(--modules DIR\)$/;
      expect(only?.verdict).toMatchObject({ kind: "skip", reason: expect.stringMatching(reason) });
      expect(code).toBe(3);
    });
  },
);

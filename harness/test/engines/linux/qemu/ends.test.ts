/**
 * Ends of a guest in QEMU that are no outcome: somebody ends QEMU, its file server or the run, resets the machine, asks for a
 * migration. Each is said in a clear message, and nothing is left. QEMU boots for each: only with `npm run test:long`.
 */
import { existsSync, mkdirSync, readFileSync, truncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { describe, expect, it } from "vitest";
import { proposalOf } from "../../../../../language/test/support/cases.ts";
import type { EndReason } from "../../../../../vmm/src/index.ts";
import { startServer as listeningServer } from "../../../../src/bench/virtiofsd-vm.ts";
import { QEMU_WINDOW_BASE } from "../../../../src/engines/linux/qemu/arguments.ts";
import { QemuGuest } from "../../../../src/engines/linux/qemu/guest.ts";
import { windowBaseIn } from "../../../../src/engines/linux/qemu/guest-words.ts";
import { planQemu } from "../../../../src/engines/linux/qemu/plan.ts";
import { Qmp } from "../../../../src/engines/linux/qemu/qmp.ts";
import { startServer } from "../../../../src/engines/linux/qemu/server.ts";
import { loadScenarios } from "../../../../src/fixtures.ts";
import { obtainDaxQemu, socketChardev } from "../../../../src/kernel/dax-qemu.ts";
import { guestKernelIn } from "../../../../src/kernel/guest.ts";
import { parseKernelSpec } from "../../../../src/kernel/spec.ts";
import { openRunDirectory } from "../../../../src/run/directory.ts";
import { processesOf } from "../../../../src/run/sweep.ts";
import { childEnvironment } from "../../../../src/run/tag.ts";
import { jsonLines, startCli } from "../../../support/cli.ts";
import { caseFolder, eventually } from "../../../support/folders.ts";
import { noVm, VM_KERNEL, VM_TEST_BOUND_MS } from "../../../support/vm.ts";

const SLOWNESS = 4;
const UP_BOUND_MS = 120_000;
const GONE_BOUND_MS = 8000;
/** Of a run whose case has ended. */
const END_BOUND_MS = 45_000;

/** A guest in the middle of a case: its task has touched the page, and waits for a host that never cuts the file. */
async function guestInCase() {
  const run = openRunDirectory();
  const directory = caseFolder();
  const sourceDirectory = join(directory, "source");
  const filePath = join(sourceDirectory, "file");
  mkdirSync(sourceDirectory);
  writeFileSync(filePath, "x");
  truncateSync(filePath, 4 << 20);
  const { signal } = new AbortController();
  const spec = parseKernelSpec(VM_KERNEL);
  if (spec.kind === "problem") throw new Error(spec.message);
  const kernel = await guestKernelIn(directory, { spec, modulesDirectory: null, signal });
  const qemu = await obtainDaxQemu({ path: null, signal });
  const scenario = loadScenarios().find(({ id }) => id === "load-after-truncate");
  if (scenario === undefined) throw new Error("there is no scenario load-after-truncate");
  const times = { lifeMs: 60_000, slowness: SLOWNESS, ioPatienceMs: 60_000, latestEndMs: Infinity };
  const place = { filePath, sourceDirectory, leaseSocket: null, ...times };
  const plan = planQemu(scenario, proposalOf("native"), place, { accelerator: "tcg", qemu, kernel });
  const { attributeMs, guard, slowness } = plan;
  const server = await startServer({ sourceDirectory, directory, attributeMs, guard, slowness });
  const guest = new QemuGuest(
    { ...plan.boot, kernelName: kernel.name, socketPath: server.socketPath, serverPid: null },
    directory,
  );
  void server.failed.then((how) => guest.lose(how));
  await guest.up();
  const prepared = await guest.prepare(plan, "file");
  let isTouched = false;
  const ended = new Promise<EndReason>((resolve) =>
    prepared.start(
      {
        signal: () => {
          isTouched = true;
        },
        ended: ({ why }) => resolve(why),
      },
      plan,
    ),
  );
  expect(await eventually(() => isTouched, UP_BOUND_MS)).toBe(true);
  return {
    guest,
    server,
    ended,
    close: async () => {
      await guest.close();
      await server.close();
      await run.close();
    },
  };
}

type InCase = Awaited<ReturnType<typeof guestInCase>>;

describe.skipIf(noVm !== null)(
  `a guest in QEMU, in a case (${noVm ?? VM_KERNEL})`,
  { timeout: VM_TEST_BOUND_MS },
  () => {
    it("is migrated by nobody: QEMU names the device, and the case goes on until the machine is reset", async () => {
      const { guest, ended, close } = await guestInCase();
      try {
        await expect(guest.execute("migrate", { uri: "exec:cat >/dev/null" })).rejects.toThrow(
          /non-migratable device '.*vhost-user-test-device'/,
        );
        // By which KVM's tracepoints are asked for.
        expect(windowBaseIn(guest.bootConsole)).toBe(QEMU_WINDOW_BASE);
        expect(await guest.execute("query-status")).toMatchObject({ status: "running" });
        await guest.execute("system_reset");
        expect(await ended).toEqual({
          kind: "defect",
          message: "QEMU was ended from outside, by `system_reset` of QMP (host-qmp-system-reset)",
        });
      } finally {
        await close();
      }
    });

    it.each<[string, (one: InCase) => number | undefined, NodeJS.Signals, string | RegExp]>([
      ["QEMU", ({ guest }) => guest.pid, "SIGKILL", "QEMU was killed from outside, by SIGKILL"],
      ["QEMU", ({ guest }) => guest.pid, "SIGTERM", /^QEMU was ended from outside, by SIGTERM/],
      ["its file server", ({ server }) => server.pid, "SIGKILL", /^file server: killed by SIGKILL/],
    ])("ends where somebody ends %s (%#)", async (_what, pidOf, signal, message) => {
      const one = await guestInCase();
      try {
        process.kill(pidOf(one) ?? Number.NaN, signal);
        expect(await one.ended).toMatchObject({
          kind: "defect",
          message: typeof message === "string" ? message : expect.stringMatching(message),
        });
      } finally {
        await one.close();
      }
    });
  },
);

/** The run's processes with that word on their command line. */
function withWord(directory: string, word: string): readonly number[] {
  return processesOf(directory).filter((pid) => {
    try {
      return readFileSync(`/proc/${pid}/cmdline`, "latin1").includes(word);
    } catch {
      return false;
    }
  });
}

describe.skipIf(noVm !== null)("QEMU's own device for virtio-fs, without DAX", () => {
  it("is migrated by nobody, either: QEMU says what the server lacks, and goes on", async () => {
    const run = openRunDirectory();
    const directory = caseFolder();
    const source = join(directory, "source");
    mkdirSync(source);
    const server = await listeningServer("ours", source, "ours", { peer: [], directory });
    const { command } = await obtainDaxQemu({ path: null, signal: new AbortController().signal });
    const [program = "", ...first] = command;
    const memory = "memory-backend-memfd,id=ram,size=64M,share=on";
    // Stopped: it needs no guest.
    const qemu = execa(
      program,
      [
        ...first,
        ...["-S", "-nodefaults", "-no-user-config", "-display", "none", "-m", "64M", "-qmp", "stdio"],
        ...["-object", memory, "-machine", "q35,memory-backend=ram"],
        ...["-chardev", socketChardev("fs", server.socketPath)],
        ...["-device", "vhost-user-fs-pci,chardev=fs,tag=fs,queue-size=128"],
      ],
      { cwd: directory, env: childEnvironment(directory), buffer: false, reject: false },
    );
    try {
      const qmp = new Qmp(qemu.duplex(), () => undefined);
      await qmp.execute("qmp_capabilities");
      await expect(qmp.execute("migrate", { uri: "exec:cat >/dev/null" })).rejects.toThrow(
        "Migration disabled: vhost-user backend lacks VHOST_USER_PROTOCOL_F_LOG_SHMFD feature",
      );
      expect(await qmp.execute("query-status")).toMatchObject({ status: "prelaunch" });
    } finally {
      qemu.kill("SIGKILL");
      await qemu;
      await server.close();
      await run.close();
    }
  });
});

describe.skipIf(noVm !== null)(
  `a run with a guest in QEMU (${noVm ?? VM_KERNEL})`,
  { timeout: VM_TEST_BOUND_MS },
  () => {
    /** Starts it, and waits until QEMU is there. */
    async function startRun() {
      const running = startCli([
        "run",
        "load-after-truncate",
        "-p",
        "native",
        "-e",
        "linux-qemu-tcg",
        "--json",
        "-",
      ]);
      let text = "";
      running.stdout.on("data", (chunk: Buffer) => {
        text += chunk.toString();
      });
      const directory = (): string =>
        text.includes("\n") ? String(jsonLines(text.slice(0, text.indexOf("\n")))[0]?.runDirectory) : "";
      const isUp = (): boolean =>
        directory() !== "" && withWord(directory(), "vhost-user-test-device-pci").length > 0;
      expect(await eventually(isUp, UP_BOUND_MS)).toBe(true);
      return { running, directory: directory() };
    }

    async function expectNothingLeft(directory: string): Promise<void> {
      const isGone = (): boolean => !existsSync(directory) && processesOf(directory).length === 0;
      expect(await eventually(isGone, GONE_BOUND_MS)).toBe(true);
    }

    it.each<[NodeJS.Signals, number | undefined]>([
      ["SIGINT", 130],
      ["SIGKILL", undefined],
    ])("leaves nothing after %s", async (signal, code) => {
      const { running, directory } = await startRun();
      running.kill(signal);
      expect((await running.ended).code).toBe(code);
      await expectNothingLeft(directory);
    });

    it.each<[string, string, RegExp]>([
      ["QEMU", "vhost-user-test-device-pci", /QEMU was killed from outside, by SIGKILL/],
      ["the file server", "serve-main", /file server: killed by SIGKILL/],
    ])("names %s that was killed, and proves nothing", async (_what, word, message) => {
      const { running, directory } = await startRun();
      for (const pid of withWord(directory, word)) process.kill(pid, "SIGKILL");
      const killedMs = performance.now();
      const { code, stdout } = await running.ended;
      // Of the actors of such a case nobody waits for what they never do.
      expect(performance.now() - killedMs).toBeLessThan(END_BOUND_MS);
      const [only] = jsonLines(stdout).filter(({ type }) => type === "case");
      expect(only?.verdict).toMatchObject({
        kind: "inconclusive",
        cause: "engine-error",
        reason: expect.stringMatching(message),
      });
      expect(code).toBe(2);
      await expectNothingLeft(directory);
    });
  },
);

/**
 * A Linux guest that runs: two processes of it touch a file all the time, on a vCPU each, through virtio-fs's DAX window. The
 * VMM is QEMU; that its CPU is emulated here does not matter to the file, which QEMU has mapped as with KVM.
 */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { expect, it, onTestFinished } from "vitest";
import { type Channel, WINDOW_BASE } from "../../../vmm/src/index.ts";
import type { PreparedCase } from "../../src/engines/linux/guest.ts";
import { ATTRIBUTE_MS, mounts } from "../../src/engines/linux/plan.ts";
import { QemuGuest } from "../../src/engines/linux/qemu/guest.ts";
import { startServer } from "../../src/engines/linux/qemu/server.ts";
import { LOAD_OFFSET, RACE_FILE_BYTES, STORE_OFFSET } from "../../src/guards/race.ts";
import { writeRaceFile } from "../../src/guards/race-place.ts";
import { NEVER_RAISED } from "../../src/guards/race-rounds.ts";
import { obtainDaxQemu } from "../../src/kernel/dax-qemu.ts";
import { guestKernelIn } from "../../src/kernel/guest.ts";
import { usualGuest } from "../../src/kernel/spec.ts";
import { caseFolder, eventually } from "../support/folders.ts";
import { noPermissionEvents } from "../support/permission-events.ts";
import { protecting } from "../support/protecting.ts";
import { Truncating } from "../support/truncating.ts";
import { noVm, VM_TEST_BOUND_MS } from "../support/vm.ts";

const SLOWNESS = 8;
const PROGRESS_MS = 20_000;
/** The ways of `daxfault guards` that a process of the host has, and a size inside a page. */
const ways = [
  "truncate",
  "open-ftruncate",
  "ftruncate-old-fd",
  "open-o-trunc",
  "collapse-range",
  "other-namespace",
  "by-nobody",
  "inside-a-page",
  "one-byte",
  "uring-ftruncate",
];
const ROUNDS = 1000;
const ETXTBSY = 26;

const at = (offset: number): bigint => WINDOW_BASE + BigInt(offset);
/** The third waits for a signal, and makes the file shorter itself. */
const GO = 1;
const task = { cpl: 3, onSigbus: "same-step", sigsegvIsSigbus: true } as const;
const touching = { size: 8, until: NEVER_RAISED, tallies: true, value: 0n } as const;
const tasks: PreparedCase["tasks"] = [
  {
    actor: "loads",
    program: { ...task, cpu: 0, steps: [{ ...touching, verb: "load", address: at(LOAD_OFFSET) }] },
  },
  {
    actor: "stores",
    program: { ...task, cpu: 1, steps: [{ ...touching, verb: "store", address: at(STORE_OFFSET) }] },
  },
  {
    actor: "cuts",
    program: {
      ...task,
      cpu: 1,
      steps: [
        { verb: "await", size: 0, address: BigInt(GO), value: 0n },
        { verb: "file-truncate", size: 0, address: WINDOW_BASE, value: 0n },
      ],
    },
  },
];

/** The guest, once both have touched the file. */
async function startGuest(folder: string, source: string) {
  const { signal } = new AbortController();
  const qemu = await obtainDaxQemu({ path: null, signal });
  const kernel = await guestKernelIn(folder, { ...usualGuest, signal });
  const common = { directory: folder, slowness: SLOWNESS };
  const server = await startServer({
    ...common,
    sourceDirectory: source,
    attributeMs: ATTRIBUTE_MS,
    guard: null,
  });
  onTestFinished(() => server.close());
  const boot = { accelerator: "tcg", cpus: 2, asyncPageFaults: "hidden", hltInGuest: false } as const;
  const bounds = { boundMs: VM_TEST_BOUND_MS, slowness: SLOWNESS, ioPatienceMs: VM_TEST_BOUND_MS };
  const { socketPath } = server;
  const guest = new QemuGuest(
    {
      ...boot,
      ...bounds,
      isIoAnswered: true,
      command: qemu.command,
      kernelName: kernel.name,
      imagePath: kernel.imagePath,
      initrdPath: kernel.pciInitrdPath,
      socketPath,
    },
    folder,
  );
  onTestFinished(() => guest.close());
  await guest.up();
  const window = { mappings: [{ at: 0n, fileOffset: 0n, length: BigInt(RACE_FILE_BYTES) }] };
  const mount = { windowBytes: RACE_FILE_BYTES, mount: mounts["dax-window"], policy: "inject-pf" } as const;
  const { channel, start } = await guest.prepare({ tasks, ...window, ...mount }, "file");
  let ended: string | null = null;
  start(
    { ended: ({ why }) => (ended = JSON.stringify(why)) },
    {
      ioPatienceMs: VM_TEST_BOUND_MS,
      isIoAnswered: true,
      isToldEarly: false,
    },
  );
  return { channel, pid: guest.pid ?? 0, serverPid: server.pid ?? 0, ended: () => ended };
}

const accesses = (channel: Channel): readonly bigint[] =>
  [0, 1].map((index) => channel.tally(index, 0).accesses);
const sigbuses = (channel: Channel): readonly bigint[] =>
  [0, 1].map((index) => channel.tally(index, 0).sigbusCount);

/** Have both processes touched the file again since? */
async function goesOn(channel: Channel): Promise<boolean> {
  const before = accesses(channel);
  return await eventually(
    () => accesses(channel).every((count, index) => count > (before[index] ?? 0n) + 1n),
    PROGRESS_MS,
  );
}

const reason = noPermissionEvents() ?? noVm;
it.skipIf(reason !== null)(
  `a Linux guest that runs goes on, whoever tries to make its file shorter${reason === null ? "" : ` (${reason})`}`,
  { timeout: VM_TEST_BOUND_MS },
  async () => {
    const folder = caseFolder();
    const source = join(folder, "shared");
    mkdirSync(source);
    writeRaceFile(source);
    const path = join(source, "file");
    const truncating = await Truncating.start(path);
    const { channel, pid, serverPid, ended } = await startGuest(folder, source);
    expect(await goesOn(channel)).toBe(true);
    const { said, news, stop } = await protecting({ pids: [pid] });
    expect(await said("file", (one) => one.path === path)).toMatchObject({ means: "refused" });
    for (const way of ways) {
      const tried = await truncating.try(way);
      expect({ way, ...tried }).toEqual({ way, errnos: { ETXTBSY: 1 }, sizeBytes: RACE_FILE_BYTES });
      expect(await goesOn(channel), way).toBe(true);
    }
    // Its own ftruncate(2), which the file server carries out.
    channel.raise(GO);
    await said("refused", ({ attempt }) => attempt.who.pid === serverPid);
    expect(await eventually(() => channel.result(2, 1).status === "errno")).toBe(true);
    expect(channel.result(2, 1).number).toBe(ETXTBSY);
    const { errnos, sizeBytes } = await truncating.try("all", ROUNDS);
    expect({ errnos, sizeBytes }).toEqual({ errnos: { ETXTBSY: ROUNDS }, sizeBytes: RACE_FILE_BYTES });
    expect(await goesOn(channel)).toBe(true);
    expect([sigbuses(channel), ended()]).toEqual([[0n, 0n], null]);
    expect(news.filter(({ type }) => type === "shorter")).toEqual([]);
    await stop();
    // Without it the guest loses its pages: it was the protection.
    expect((await truncating.try("truncate")).errnos).toEqual({ done: 1 });
    const isHarmed = (): boolean => ended() !== null || sigbuses(channel).some((count) => count > 0n);
    expect(await eventually(isHarmed, PROGRESS_MS)).toBe(true);
  },
);

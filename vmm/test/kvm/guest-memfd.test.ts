/** guest_memfd behind the window, where the host may map it: nobody can make it shorter while a guest loads from it. */
import { closeSync, ftruncateSync } from "node:fs";
import { describe, expect, it } from "vitest";
import {
  files,
  MAP_ANONYMOUS,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
  viewOf,
} from "../../../sys/src/index.ts";
import {
  buildMachine,
  Kvm,
  loadImage,
  type MachineOptions,
  plainMachine,
  startVm,
  type VcpuMessage,
  Vm,
  WINDOW_BASE,
} from "../../src/index.ts";
import { access, FILE_BYTES, signal } from "../support/case.ts";
import { kvmOrReason } from "../support/kvm.ts";

const BOTH = 3;
const LOAD_AT = 0x1000;
const PUNCH_HOLE_KEEP_SIZE = 3;

/** Why there is no such memory here, or null. */
function reasonAgainst(): string | null {
  const { reason } = kvmOrReason();
  if (reason !== null) return reason;
  const kvm = Kvm.open();
  const flags = kvm.check("KVM_CAP_GUEST_MEMFD_FLAGS");
  kvm.close();
  return (flags & BOTH) === BOTH ? null : `KVM_CAP_GUEST_MEMFD_FLAGS is ${flags}: no mappable guest_memfd`;
}

const reason = reasonAgainst();

describe.skipIf(reason !== null)(`guest_memfd${reason === null ? "" : ` (skipped: ${reason})`}`, () => {
  it("keeps its size whatever the host tries; a hole it does get, and the guest loads zeros", async () => {
    const kvm = Kvm.open();
    const owner = Vm.create(kvm, { lapicInKernel: false, hltInGuest: false });
    const fd = owner.createGuestMemfd(FILE_BYTES);
    const windowHva = mmap({ lengthBytes: FILE_BYTES, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    viewOf(windowHva, FILE_BYTES).fill(7, LOAD_AT, LOAD_AT + 8);
    const load = access("load", 8, LOAD_AT);
    const steps = [
      load,
      signal("signal", 1),
      signal("await", 2),
      load,
      signal("signal", 3),
      signal("await", 4),
      load,
    ];
    const programs = [{ cpl: 3 as const, steps }];
    const machine = buildMachine(kvm, loadImage(), {
      ...plainMachine,
      windowHva,
      windowBytes: FILE_BYTES,
      programs,
    });
    const refusals: string[] = [];
    const runner = startVm(machine, (message) => {
      if (message.type === "stopped" || message.type === "looping") runner.stop();
      if (message.type !== "signal") return;
      if (message.number === 1) refusals.push(...[0, 2 * FILE_BYTES].map((size) => refusalOf(fd, size)));
      if (message.number === 3)
        expect(files.fallocate(fd, PUNCH_HOLE_KEEP_SIZE, 0n, BigInt(FILE_BYTES))).toBe(0);
      machine.channel.raise(message.number + 1);
    });
    const limit = setTimeout(() => runner.stop(), 10_000);
    await runner.exited;
    clearTimeout(limit);
    const loaded = [0, 3, 6].map((step) => {
      const { status, bytes } = machine.channel.result(0, step);
      return `${status} ${bytes[0]}`;
    });
    machine.close();
    munmap(windowHva, FILE_BYTES);
    closeSync(fd);
    owner.close();
    kvm.close();
    expect(refusals).toEqual(["EINVAL", "EINVAL"]);
    expect(loaded).toEqual(["done 7", "done 7", "done 0"]);
  });
});

type Setup = Partial<Pick<MachineOptions, "lapicInKernel" | "asyncPageFaults">>;

const setups: readonly (readonly [string, Setup])[] = [
  ["without an APIC in the kernel", {}],
  ["with one", { lapicInKernel: true }],
  ["with async page faults", { lapicInKernel: true, asyncPageFaults: "on" }],
];

/** kvm_mmu_faultin_pfn_gmem() (arch/x86/kvm/mmu/mmu.c): neither FOLL_NOWAIT nor an async page fault. */
describe.skipIf(reason !== null)("a memslot of guest_memfd alone", () => {
  it.each(setups)("is KVM_EXIT_MEMORY_FAULT once the guest_memfd is closed, %s", async (_name, setup) => {
    const kvm = Kvm.open();
    const first = mmap({
      lengthBytes: FILE_BYTES,
      prot: PROT_READ | PROT_WRITE,
      flags: MAP_PRIVATE | MAP_ANONYMOUS,
      fd: -1,
    });
    const load = access("load", 8, LOAD_AT);
    const machine = buildMachine(kvm, loadImage(), {
      ...plainMachine,
      ...setup,
      windowHva: first,
      windowBytes: FILE_BYTES,
      programs: [{ cpl: 3, steps: [load, signal("signal", 1), signal("await", 2), load] }],
    });
    const fd = machine.vm.createGuestMemfd(FILE_BYTES);
    const hva = mmap({ lengthBytes: FILE_BYTES, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    viewOf(hva, FILE_BYTES).fill(7, LOAD_AT, LOAD_AT + 8);
    const window = machine.vm.memslots.find(({ gpa }) => gpa === WINDOW_BASE);
    if (window === undefined) throw new Error("no memslot at the window");
    machine.vm.moveToGuestMemfd(window, fd);
    const stops: VcpuMessage[] = [];
    const runner = startVm(machine, (message) => {
      if (message.type === "stopped" || message.type === "looping") {
        stops.push(message);
        runner.stop();
      }
      if (message.type !== "signal") return;
      // The mapping is a reference to the file, too.
      munmap(hva, FILE_BYTES);
      closeSync(fd);
      machine.channel.raise(2);
    });
    const limit = setTimeout(() => runner.stop(), 10_000);
    await runner.exited;
    clearTimeout(limit);
    const { status, bytes } = machine.channel.result(0, 0);
    const notPresentCount = machine.channel.apfNotPresentCount;
    machine.close();
    munmap(first, FILE_BYTES);
    kvm.close();
    expect([status, bytes[0], notPresentCount]).toEqual(["done", 7, 0]);
    expect(stops).toEqual([
      expect.objectContaining({
        type: "stopped",
        exit: expect.objectContaining({ kind: "memory-fault", gpa: WINDOW_BASE + BigInt(LOAD_AT) }),
      }),
    ]);
  });
});

function refusalOf(fd: number, sizeBytes: number): string {
  try {
    ftruncateSync(fd, sizeBytes);
    return "none";
  } catch (error) {
    return (error as NodeJS.ErrnoException).code ?? String(error);
  }
}

/**
 * The cost of an exit to this VMM, beside the same loop in C (vmm/bench/exits.c, built here): a port access and back, and
 * the cycle of a fault that cannot be resolved: -EFAULT, #PF injected, KVM_RUN again. The guest is a few bytes, so that
 * little but KVM and the VMM is measured; both sides load it from one file.
 */
import { spawnSync } from "node:child_process";
import { closeSync, ftruncateSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import {
  LostChildError,
  MAP_SHARED,
  type Mapping,
  mapAnonymous,
  memfdCreate,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
} from "../../../../../sys/src/index.ts";
import { WINDOW_BASE } from "../../../guest/channel.ts";
import { Kvm } from "../../../kvm/device.ts";
import type { VcpuExit } from "../../../kvm/exit.ts";
import { machineLayout } from "../layout.ts";
import { PML4_ADDRESS, writePageTables } from "../page-tables.ts";
import type { Segment, Vcpu } from "../vcpu.ts";
import { syncedRegisters, Vm } from "../vm.ts";

/** `fault`: registers where KVM keeps them for the VMM (KVM_CAP_SYNC_REGS), as this VMM runs; `fault-ioctl`: by a call each. */
export const exitCycles = ["port", "fault", "fault-ioctl"] as const;
export type ExitCycle = (typeof exitCycles)[number];

const WINDOW_BYTES = 2 * 2 ** 20;
const PORT = 0x10;
const VECTOR_PF = 14;
/** Not present, read, CPL 3: what the processor would have pushed. */
const PF_ERROR_CODE = 4;
/** The clock is looked at once in so many cycles. */
const BATCH = 64;

const GDT = 0x80000;
const IDT = 0x81000;
const TSS = 0x82000;
const KERNEL_STACK_END = 0x84000n;
const USER_CODE = 0x90000n;
const KERNEL_CODE = 0x91000n;
const HANDLER = 0x92000n;
const selector = { kernelCode: 0x08, kernelData: 0x10, userData: 0x1b, userCode: 0x23, tss: 0x28 } as const;

/** `out %al, $PORT; jmp` back. */
const portLoop = [0xe6, PORT, 0xeb, 0xfc];
/** `mov (%rax), %rbx; jmp` back: RAX points into the window. */
const faultLoop = [0x48, 0x8b, 0x18, 0xeb, 0xfb];
/** `add $8, %rsp; iretq`: over the error code, and back to the instruction that faulted. */
const returnToFault = [0x48, 0x83, 0xc4, 0x08, 0x48, 0xcf];

function fillMemory(ram: Uint8Array): void {
  writePageTables(ram, WINDOW_BYTES, [{ start: USER_CODE, end: USER_CODE + 0x1000n }]);
  const view = new DataView(ram.buffer, ram.byteOffset, ram.byteLength);
  const descriptors = [
    0n,
    0x00af9b000000ffffn,
    0x00cf93000000ffffn,
    0x00cff3000000ffffn,
    0x00affb000000ffffn,
  ];
  for (const [index, descriptor] of descriptors.entries())
    view.setBigUint64(GDT + 8 * index, descriptor, true);
  // The TSS: RSP0 at 4.
  view.setBigUint64(TSS + 4, KERNEL_STACK_END, true);
  view.setBigUint64(GDT + selector.tss, 0x67n | (BigInt(TSS & 0xffffff) << 16n) | (0x8bn << 40n), true);
  // One gate: an interrupt gate of DPL 0 for #PF.
  const gate =
    (HANDLER & 0xffffn) | (BigInt(selector.kernelCode) << 16n) | (0x8e00n << 32n) | ((HANDLER >> 16n) << 48n);
  view.setBigUint64(IDT + 16 * VECTOR_PF, gate, true);
  ram.set(faultLoop, Number(USER_CODE));
  ram.set(portLoop, Number(KERNEL_CODE));
  ram.set(returnToFault, Number(HANDLER));
}

function enter(vcpu: Vcpu, cycle: ExitCycle): void {
  const user = cycle !== "port";
  const flat = { base: 0n, limit: 0xffffffff, s: 1, dpl: user ? 3 : 0, g: 1 };
  const code: Segment = {
    ...flat,
    selector: user ? selector.userCode : selector.kernelCode,
    type: 11,
    l: 1,
    db: 0,
  };
  const data: Segment = {
    ...flat,
    selector: user ? selector.userData : selector.kernelData,
    type: 3,
    l: 0,
    db: 1,
  };
  const tr: Segment = {
    base: BigInt(TSS),
    limit: 0x67,
    selector: selector.tss,
    type: 11,
    s: 0,
    dpl: 0,
    l: 0,
    db: 0,
    g: 0,
  };
  vcpu.setSpecialRegisters({
    segments: { cs: code, ds: data, es: data, ss: data, tr },
    tables: { gdt: { base: BigInt(GDT), limit: 0x37 }, idt: { base: BigInt(IDT), limit: 0xfff } },
    control: { cr0: 0x80050033n, cr3: PML4_ADDRESS, cr4: 0x620n, efer: 0x500n },
  });
  vcpu.setRegisters({
    rax: WINDOW_BASE,
    rip: user ? USER_CODE : KERNEL_CODE,
    rsp: user ? USER_CODE + 0x1000n : KERNEL_STACK_END,
    rflags: 2n,
  });
}

type Loop = {
  readonly vcpu: Vcpu;
  readonly ram: Mapping;
  close(): void;
};

function openLoop(kvm: Kvm, cycle: ExitCycle): Loop {
  const ram = mapAnonymous(Number(machineLayout.RAM_BYTES));
  fillMemory(ram.bytes);
  const fd = memfdCreate("window");
  ftruncateSync(fd, WINDOW_BYTES);
  const window = mmap({ lengthBytes: WINDOW_BYTES, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
  ftruncateSync(fd, 0);
  const vm = Vm.create(kvm, { lapicInKernel: false, hltInGuest: false });
  vm.addMemslot(0n, ram.address, ram.bytes.length);
  vm.addMemslot(WINDOW_BASE, window, WINDOW_BYTES);
  const vcpu = vm.createVcpu(0);
  vcpu.syncRegisters(cycle === "fault-ioctl" ? 0 : syncedRegisters(vm.fd));
  enter(vcpu, cycle);
  return {
    vcpu,
    ram,
    close() {
      vcpu.close();
      vm.close();
      munmap(window, WINDOW_BYTES);
      closeSync(fd);
      ram.free();
    },
  };
}

/** A signal (a profiler's, say) is no exit of the guest's. */
function exitOf(vcpu: Vcpu): VcpuExit {
  for (;;) {
    const exit = vcpu.run();
    if (exit.kind !== "interrupted") return exit;
  }
}

function portCycle(vcpu: Vcpu): void {
  const exit = exitOf(vcpu);
  if (exit.kind !== "io" || exit.port !== PORT || exit.direction !== "out") {
    throw new Error(`expected port 0x${PORT.toString(16)}, got ${exit.kind}`);
  }
}

function faultCycle(vcpu: Vcpu): void {
  const exit = exitOf(vcpu);
  if (exit.kind !== "error" || exit.errno !== "EFAULT") throw new Error(`expected EFAULT, got ${exit.kind}`);
  vcpu.setCr2(WINDOW_BASE);
  vcpu.injectException(VECTOR_PF, PF_ERROR_CODE);
}

/** Cycles a second of this VMM over about `forMs`. */
function measure(loop: Loop, cycle: ExitCycle, forMs: number): number {
  const once = cycle === "port" ? portCycle : faultCycle;
  for (let i = 0; i < BATCH; i++) once(loop.vcpu);
  const start = performance.now();
  let cycles = 0;
  let elapsedMs = 0;
  do {
    for (let i = 0; i < BATCH; i++) once(loop.vcpu);
    cycles += BATCH;
    elapsedMs = performance.now() - start;
  } while (elapsedMs < forMs);
  return (1000 * cycles) / elapsedMs;
}

export type ExitBenchOptions = {
  /** vmm/bench/exits.c */
  readonly peerSource: string;
  /** Turns of either side, one after the other. */
  readonly turns: number;
  readonly turnMs: number;
  /** The peer is built there. */
  readonly directory: string;
  /** Of the compiler and the peer. */
  readonly environment: Readonly<Record<string, string>>;
  readonly progress: (text: string) => void;
};

export type ExitBenchRow = {
  readonly cycle: ExitCycle;
  /** Cycles a second of each turn. */
  readonly ours: readonly number[];
  /** null: there was no C compiler. */
  readonly peer: readonly number[] | null;
};

type Peer = Pick<ExitBenchOptions, "peerSource" | "directory" | "environment">;

function buildPeer({ peerSource: source, directory, environment }: Peer): string | null {
  const program = join(directory, "exits");
  const built = spawnSync(
    "gcc",
    ["-std=gnu11", "-O2", "-Wall", "-Wextra", "-Werror", "-o", program, source],
    {
      encoding: "utf8",
      env: { ...process.env, ...environment },
    },
  );
  if (built.error !== undefined) return null;
  if (built.status !== 0) throw new Error(`gcc ${source}: ${built.stderr}`);
  return program;
}

type PeerTurn = Pick<ExitBenchOptions, "turnMs" | "environment"> & {
  readonly program: string;
  readonly state: string;
  readonly cycle: ExitCycle;
};

function runPeer({ program, state, cycle, turnMs, environment }: PeerTurn): number {
  const env = { ...process.env, ...environment };
  const done = spawnSync(program, [state, cycle, String(turnMs)], { encoding: "utf8", env });
  if (done.signal !== null) throw new LostChildError(`the loop in C was killed by ${done.signal}`);
  if (done.status !== 0) throw new Error(`${program} ${cycle}: ${done.stderr}`);
  return Number(done.stdout);
}

/** Both cycles, both sides, in turns on the same machine. Occupies the thread. Throws where KVM does something else. */
export function benchExits(options: ExitBenchOptions): ExitBenchRow[] {
  const { turns, turnMs, directory, environment, progress } = options;
  const kvm = Kvm.open();
  try {
    const program = buildPeer(options);
    return exitCycles.map((cycle) => {
      const loop = openLoop(kvm, cycle);
      const state = join(directory, `${cycle}.state`);
      writeFileSync(state, Buffer.concat([...loop.vcpu.rawState(), loop.ram.bytes]));
      const ours: number[] = [];
      const peer: number[] = [];
      try {
        measure(loop, cycle, turnMs); // The JIT's turn.
        for (let turn = 1; turn <= turns; turn++) {
          progress(`${cycle}: turn ${turn} of ${turns}`);
          ours.push(measure(loop, cycle, turnMs));
          if (program !== null) peer.push(runPeer({ program, state, cycle, turnMs, environment }));
        }
      } finally {
        loop.close();
      }
      return { cycle, ours, peer: program === null ? null : peer };
    });
  } finally {
    kvm.close();
  }
}

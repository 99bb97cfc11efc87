/** Runs programs on the micro-guest over a file in a temporary folder; always ends, always cleans up. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from "../../../sys/src/index.ts";
import {
  buildMachine,
  type GuestEvent,
  Kvm,
  loadImage,
  type Machine,
  type MachineOptions,
  type ProgramStep,
  plainMachine,
  type StepResult,
  startVm,
  type TaskProgram,
  type TaskState,
  type VcpuMessage,
  WINDOW_BASE,
} from "../../src/index.ts";

export const FILE_BYTES: number = 2 * 2 ** 20;
/** Long enough for any case here on a busy machine; a case that needs it has failed. */
const LIFE_LIMIT_MS = 10_000;

/** What differs from the plain machine. */
export type Setup = Partial<Omit<MachineOptions, "windowHva" | "windowBytes" | "programs">>;

export type Outcome = {
  readonly messages: readonly VcpuMessage[];
  readonly results: readonly (readonly StepResult[])[];
  readonly counts: readonly bigint[];
  readonly states: readonly TaskState[];
  readonly events: readonly GuestEvent[];
  readonly apfNotPresentCount: number;
  readonly apfReadyCount: number;
  readonly nmiCount: number;
  /** Page-ready events still kept for a sleeper; pages said to be missing and not yet said to be ready. */
  readonly earlyTokens: number;
  readonly outstanding: number;
};

export function access(verb: ProgramStep["verb"], size: number, offset: number, value = 0n): ProgramStep {
  return { verb, size, address: WINDOW_BASE + BigInt(offset), value };
}

export function signal(verb: "signal" | "await", number: number): ProgramStep {
  return { verb, size: 0, address: BigInt(number), value: 0n };
}

export const counting: TaskProgram = { cpl: 3, steps: [{ verb: "count", size: 0, address: 0n, value: 0n }] };

/**
 * @param onSignal what the host does when a guest task raises a signal
 * @param prepare what it does to the machine before the first instruction
 */
export async function runCase(
  setup: Setup,
  content: Uint8Array,
  programs: readonly TaskProgram[],
  onSignal: (number: number, file: number, raise: (signal: number) => void) => void = () => {},
  prepare: (machine: Machine) => void = () => {},
): Promise<Outcome> {
  const directory = mkdtempSync(join(tmpdir(), "daxfault-vmm-"));
  const file = openSync(join(directory, "file"), "w+");
  // The descriptor is enough: nothing stays behind where a test expects this to throw.
  rmSync(directory, { recursive: true });
  ftruncateSync(file, FILE_BYTES);
  writeSync(file, content, 0, content.length, 0);
  const windowHva = mmap({
    lengthBytes: FILE_BYTES,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_SHARED,
    fd: file,
  });
  const kvm = Kvm.open();
  const machine = buildMachine(kvm, loadImage(), {
    ...plainMachine,
    machineCheckSafe: "reads",
    ...setup,
    windowHva,
    windowBytes: FILE_BYTES,
    programs,
  });
  prepare(machine);
  const messages: VcpuMessage[] = [];
  const runner = startVm(machine, (message) => {
    messages.push(message);
    if (message.type === "signal") onSignal(message.number, file, (one) => machine.channel.raise(one));
    if (message.type === "stopped" || message.type === "looping") runner.stop();
  });
  const limit = setTimeout(() => runner.stop(), LIFE_LIMIT_MS);
  await runner.exited;
  clearTimeout(limit);
  const { channel } = machine;
  const outcome = {
    messages,
    results: programs.map((program, task) => program.steps.map((_, step) => channel.result(task, step))),
    counts: programs.map((_, task) => channel.count(task)),
    states: programs.map((_, task) => channel.taskState(task)),
    events: channel.events(),
    apfNotPresentCount: channel.apfNotPresentCount,
    apfReadyCount: channel.apfReadyCount,
    nmiCount: channel.nmiCount,
    earlyTokens: channel.earlyTokens,
    outstanding: channel.outstanding,
  };
  machine.close();
  kvm.close();
  munmap(windowHva, FILE_BYTES);
  closeSync(file);
  return outcome;
}

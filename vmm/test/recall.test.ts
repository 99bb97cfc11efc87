/** The barrier: when a recall returns, no vCPU can still reach the file. Two of them try all the time. */
import { closeSync, ftruncateSync, mkdtempSync, openSync, readSync, rmSync, writeSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import { MAP_SHARED, mmap, munmap, PAGE_SIZE, PROT_READ, PROT_WRITE } from "../../sys/src/index.ts";
import {
  buildMachine,
  Kvm,
  loadImage,
  PageStates,
  pageState,
  plainMachine,
  startVm,
  type TaskProgram,
  WINDOW_BASE,
  WindowHolder,
} from "../src/index.ts";
import { FILE_BYTES } from "./support/case.ts";
import { kvmOrReason } from "./support/kvm.ts";

const kvm = kvmOrReason();
const ROUNDS = 200;
const FROM = { fromBytes: 0n, by: "the test" };

function storing(cpu: number): TaskProgram {
  const address = WINDOW_BASE + BigInt(cpu * PAGE_SIZE);
  const step = { verb: "store" as const, size: 8, address, value: 1n, until: 15, tallies: true };
  return { cpl: 3, cpu, onSigbus: "same-step", steps: [step] };
}

function words(fd: number): bigint[] {
  const bytes = Buffer.alloc(8);
  return [0, 1].map((cpu) => {
    readSync(fd, bytes, 0, 8, cpu * PAGE_SIZE);
    return bytes.readBigUInt64LE();
  });
}

describe.skipIf(kvm.reason !== null)(`a recall while two vCPUs store all the time${kvm.note}`, () => {
  it("is a barrier: nothing that they store reaches the file after it, until the file is given back", async () => {
    const directory = mkdtempSync(join(tmpdir(), "daxfault-vmm-"));
    const fd = openSync(join(directory, "file"), "w+");
    ftruncateSync(fd, FILE_BYTES);
    const hva = mmap({ lengthBytes: FILE_BYTES, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd });
    const states = new PageStates(hva, FILE_BYTES);
    const holder = new WindowHolder({ hva, lengthBytes: FILE_BYTES, fileOffset: 0n, fd }, states);
    const device = Kvm.open();
    const programs = [storing(0), storing(1)];
    const machine = buildMachine(device, loadImage(), {
      ...plainMachine,
      pageFaultIsError: true,
      policy: "inject-pf",
      windowHva: hva,
      windowBytes: FILE_BYTES,
      programs,
      pageStates: states.buffer,
    });
    const runner = startVm(machine, () => {});
    const accesses = (): bigint[] => [0, 1].map((task) => machine.channel.tally(task, 0).accesses);
    const all = async (isSo: (index: number) => boolean): Promise<void> => {
      while (![0, 1].every(isSo)) await sleep(0);
    };
    try {
      await all((index) => (accesses()[index] ?? 0n) > 0n);
      for (let round = 0; round < ROUNDS; round += 1) {
        for (const task of [0, 1]) machine.channel.setValue(task, 0, BigInt(round + 2));
        holder.recall(FROM);
        writeSync(fd, Buffer.alloc(2 * PAGE_SIZE), 0, 2 * PAGE_SIZE, 0);
        expect(words(fd)).toEqual([0n, 0n]);
        // Their chance: some hundred thousand stores.
        if (round % 20 === 0) await sleep(2);
        expect(words(fd)).toEqual([0n, 0n]);
        expect(states.of(hva)).toBe(pageState.recalled);
        const before = accesses();
        holder.settle(BigInt(FILE_BYTES));
        await all((index) => (accesses()[index] ?? 0n) > (before[index] ?? 0n));
      }
      expect(states.unannounced).toBe(0);
    } finally {
      runner.stop();
      await runner.exited;
      machine.close();
      device.close();
      munmap(hva, FILE_BYTES);
      closeSync(fd);
      rmSync(directory, { recursive: true });
    }
  }, 60_000);
});

import { ftruncateSync, writeSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { cpuFeatures, Kvm, loadImage, supportedCpuid, type VcpuMessage } from "../../src/index.ts";
import { access, counting, FILE_BYTES, runCase, signal } from "../support/case.ts";
import { kvmOrReason } from "../support/kvm.ts";

const kvm = kvmOrReason();
const features = kvm.reason === null ? readFeatures() : null;

function readFeatures() {
  const device = Kvm.open();
  const found = cpuFeatures(supportedCpuid(device));
  device.close();
  return found;
}

/** Every byte of the first page differs from its neighbours; code at 0x2000 returns 0x04030201. */
function content(): Uint8Array {
  const bytes = new Uint8Array(FILE_BYTES).map((_, i) => (i * 7 + 1) & 0xff);
  bytes.set([0xb8, 1, 2, 3, 4, 0xc3], 0x2000);
  return bytes;
}

const setups = {
  "APIC in user space": { lapicInKernel: false, hltInGuest: false, asyncPageFaults: "off" },
  "APIC in the kernel": { lapicInKernel: true, hltInGuest: false, asyncPageFaults: "off" },
  "async page faults": { lapicInKernel: true, hltInGuest: false, asyncPageFaults: "on" },
  "HLT in the guest": { lapicInKernel: true, hltInGuest: true, asyncPageFaults: "off" },
} as const;

const wide = [...(features?.avx ? [32] : []), ...(features?.avx512 ? [64] : [])];
const ending = (messages: readonly VcpuMessage[]) => messages.find((message) => message.type === "ended");

describe.skipIf(kvm.reason !== null)(`the micro-guest on /dev/kvm${kvm.note}`, () => {
  for (const [name, setup] of Object.entries(setups)) {
    for (const cpl of [3, 0] as const) {
      it(`loads, stores, counts, copies and calls at CPL ${cpl}, ${name}`, async () => {
        const before = content();
        const sizes = [1, 2, 4, 8, 16, ...(cpl === 3 ? wide : [])];
        const loads = sizes.map((size) => access("load", size, 0x1000));
        const stores = sizes.map((size, i) => access("store", size, 0x3000 + 64 * i, 0x1122334455667788n));
        const back = sizes.map((size, i) => access("load", size, 0x3000 + 64 * i));
        const atomics = [1, 2, 4, 8, ...(cpl === 3 ? [16] : [])].map((size) =>
          access("atomic", size, 0x1100),
        );
        const rest = [
          access("fetch", 0, 0x2000),
          access("copy-from", 63, 0x1001),
          access("copy-to", 24, 0x4001, 0xa1a2a3a4a5a6a7a8n),
          access("load", 8, 0x4002),
        ];
        const steps = [...loads, ...stores, ...back, ...atomics, ...rest];
        const outcome = await runCase(setup, before, [{ cpl, steps }, counting]);
        expect(ending(outcome.messages)).toMatchObject({ why: { kind: "finished" } });
        const results = outcome.results[0] ?? [];
        expect(results.map(({ status }) => status)).toEqual(steps.map(() => "done"));
        const bytesOf = (index: number, size: number) =>
          Buffer.from(results[index]?.bytes.subarray(0, size) ?? []);
        for (const [i, size] of sizes.entries()) {
          expect(bytesOf(i, size)).toEqual(Buffer.from(before.subarray(0x1000, 0x1000 + size)));
          const stored = Buffer.alloc(64);
          stored.set([0x88, 0x77, 0x66, 0x55, 0x44, 0x33, 0x22, 0x11]);
          expect(bytesOf(2 * sizes.length + i, size)).toEqual(stored.subarray(0, size));
        }
        const firstAtomic = 3 * sizes.length;
        expect(bytesOf(firstAtomic, 1)).toEqual(Buffer.from(before.subarray(0x1100, 0x1101)));
        expect(bytesOf(steps.length - 4, 4)).toEqual(Buffer.from([1, 2, 3, 4]));
        expect(bytesOf(steps.length - 3, 63)).toEqual(Buffer.from(before.subarray(0x1001, 0x1040)));
        expect(bytesOf(steps.length - 1, 8).toString("hex")).toBe("a7a6a5a4a3a2a100");
      });
    }
  }

  for (const [name, setup] of Object.entries(setups)) {
    it(`runs tasks on two vCPUs and ends when those of both have, ${name}`, async () => {
      const handOver = (mine: number, other: number) => [
        access("load", 8, 0x1000),
        signal("signal", mine),
        signal("await", other),
        access("store", 8, 0x3000 + 64 * mine, 7n),
      ];
      const outcome = await runCase(setup, content(), [
        { cpl: 3, steps: handOver(0, 1) },
        { cpl: 3, cpu: 1, steps: handOver(1, 0) },
        { ...counting, cpu: 1 },
      ]);
      for (const task of [0, 1]) {
        expect(outcome.results[task]?.map(({ status }) => status)).toEqual([
          "done",
          "not-reached",
          "not-reached",
          "done",
        ]);
      }
      expect(outcome.counts[2]).toBeGreaterThan(0n);
      const ends = outcome.messages.flatMap((one) => (one.type === "ended" ? [[one.cpu, one.why.kind]] : []));
      expect(ends.map(([cpu]) => cpu).toSorted()).toEqual([0, 1]);
      expect(ends.some(([, kind]) => kind === "finished")).toBe(true);
    });
  }

  it("repeats an access until it sees the signal, and once more", async () => {
    let file = -1;
    const repeated = { ...access("load", 8, 0x1000), until: 1 };
    const outcome = await runCase(
      setups["APIC in the kernel"],
      content(),
      [{ cpl: 3, steps: [signal("signal", 0), repeated] }],
      (_number, fd, raise) => {
        file = fd;
        setTimeout(() => {
          writeSync(file, new Uint8Array(8).fill(0x77), 0, 8, 0x1000);
          raise(1);
        }, 20);
      },
    );
    expect(outcome.results[0]?.[1]).toMatchObject({ status: "done" });
    expect(outcome.results[0]?.[1]?.bytes.subarray(0, 8)).toEqual(new Uint8Array(8).fill(0x77));
  });

  it("stops as a whole: a vCPU whose access fails holds the other one, too", async () => {
    const outcome = await runCase(
      setups["APIC in user space"],
      content(),
      [
        { cpl: 3, steps: [signal("signal", 0), signal("await", 1), access("load", 8, 0x1000)] },
        { ...counting, cpu: 1 },
      ],
      (_number, fd, raise) => {
        ftruncateSync(fd, 0);
        raise(1);
      },
    );
    expect(outcome.messages.filter(({ type }) => type === "stopped")).toHaveLength(1);
    const ends = outcome.messages.flatMap((one) => (one.type === "ended" ? [one.why.kind] : []));
    expect(ends).toEqual(["stopped-from-outside", "stopped-from-outside"]);
  });

  it("refuses a third vCPU, naming the limit", async () => {
    const programs = [{ ...counting, cpu: 2 }];
    await expect(runCase(setups["APIC in user space"], content(), programs)).rejects.toThrow(
      "3 vCPUs: at most 2",
    );
  });

  it("ends a task that touches what it may not, and tells vector, error code, CR2 and rip", async () => {
    const instructions = loadImage().accessInstructions;
    // 2 MiB + 4 KiB above the window's start: not in the guest's page tables.
    const outcome = await runCase(setups["APIC in user space"], content(), [
      { cpl: 3, steps: [access("store", 4, FILE_BYTES + 0x1000, 1n)] },
      { cpl: 3, steps: [access("load", 8, 0x1000)] },
    ]);
    expect(ending(outcome.messages)).toMatchObject({ why: { kind: "finished" } });
    expect(outcome.events).toMatchObject([
      { kind: "exception", task: 0, vector: 14, cpl: 3, errorCode: 6n, rip: instructions.get("store/4") },
    ]);
    expect(outcome.events[0]?.cr2).toBe(0x40000000n + BigInt(FILE_BYTES) + 0x1000n);
    expect(outcome.results[1]?.[0]?.status).toBe("done");
  });

  it("panics, and says so, when the guest kernel itself faults", async () => {
    const outcome = await runCase(setups["APIC in user space"], content(), [
      { cpl: 0, steps: [access("load", 8, FILE_BYTES + 0x1000)] },
    ]);
    expect(ending(outcome.messages)).toMatchObject({
      why: { kind: "guest-panic", reason: "exception in the guest kernel" },
    });
  });

  it("refuses a step that makes no sense instead of doing something else", async () => {
    const outcome = await runCase(setups["APIC in user space"], content(), [
      { cpl: 3, steps: [access("load", 3, 0)] },
    ]);
    expect(ending(outcome.messages)).toMatchObject({ why: { kind: "guest-panic", reason: "bad step" } });
  });

  it("passes signals both ways while a bystander counts", async () => {
    const outcome = await runCase(
      setups["APIC in the kernel"],
      content(),
      [{ cpl: 3, steps: [signal("signal", 0), signal("await", 5), access("load", 1, 0)] }, counting],
      (number, _file, raise) => {
        if (number === 0) setTimeout(() => raise(5), 20);
      },
    );
    expect(outcome.results[0]?.[2]?.status).toBe("done");
    expect(outcome.counts[1]).toBeGreaterThan(1000n);
  });
});

/** virtio-mmio registers (virtio 1.2, 4.2.2) and the life of a device (2.1, 3.1). */
import { describe, expect, it } from "vitest";
import type { VirtioDevice } from "../../../src/transport/virtio/device.ts";
import {
  INTERRUPT,
  MmioRegisters,
  REGISTER,
  type RegisterEffect,
  STATUS,
} from "../../../src/transport/virtio/registers.ts";

const FEATURE = 1n << 3n;
const device: VirtioDevice = {
  id: 26,
  features: FEATURE,
  config: new Uint8Array([1, 2, 3, 4, 5, 6]),
  queueSizes: [64, 128],
  sharedMemory: [{ gpa: 0x12_3456_7000n, lengthBytes: 0x1_0000_2000n }],
  serve: () => undefined,
  msUntilDue: () => null,
  handleDue: () => undefined,
  reset: () => undefined,
};
const VERSION_1 = 1n << 32n;

class Registers extends MmioRegisters {
  constructor() {
    super(device);
  }
  get(offset: number): number {
    return Number(this.read(offset, 4));
  }
  set(offset: number, value: number): RegisterEffect {
    return this.write(offset, 4, BigInt(value));
  }
  /** As far as features are settled, with these accepted. */
  negotiated(features: bigint = VERSION_1): this {
    this.set(REGISTER.status, STATUS.acknowledge | STATUS.driver);
    for (const [select, bits] of [features & 0xffff_ffffn, features >> 32n].entries()) {
      this.set(REGISTER.driverFeaturesSelect, select);
      this.write(REGISTER.driverFeatures, 4, bits);
    }
    this.set(REGISTER.status, this.get(REGISTER.status) | STATUS.featuresOk);
    return this;
  }
  withQueue(index = 1): RegisterEffect {
    this.set(REGISTER.queueSelect, index);
    this.set(REGISTER.queueSize, 16);
    for (const [offset, value] of [
      [REGISTER.queueDescriptors, 0x1_0000_1000n],
      [REGISTER.queueDriver, 0x2_0000_2000n],
      [REGISTER.queueDevice, 0x3_0000_3000n],
    ] as const) {
      this.write(offset, 4, value & 0xffff_ffffn);
      this.write(offset + 4, 4, value >> 32n);
    }
    return this.set(REGISTER.queueReady, 1);
  }
  live(): this {
    this.negotiated().withQueue();
    this.set(REGISTER.status, this.get(REGISTER.status) | STATUS.driverOk);
    return this;
  }
}

describe("what a driver reads", () => {
  const registers = new Registers();

  it.each([
    ["magic value", REGISTER.magic, 0x74726976],
    ["version", REGISTER.version, 2],
    ["device id", REGISTER.deviceId, 26],
    ["largest queue", REGISTER.queueSizeMax, 64],
    ["status", REGISTER.status, 0],
    ["generation", REGISTER.configGeneration, 0],
    ["a write-only register", REGISTER.queueNotify, 0],
    ["a legacy register", 0x040, 0],
    ["a reserved one", 0x0f8, 0],
  ])("%s", (_, offset, value) => {
    expect(registers.get(offset)).toBe(value);
  });

  it("features, 32 at a time, none beyond 64", () => {
    const words = [0, 1, 2, 0xffff_ffff].map((select) => {
      registers.set(REGISTER.deviceFeaturesSelect, select);
      return registers.get(REGISTER.deviceFeatures);
    });
    expect(words).toEqual([(1 << 28) | 8, 1, 0, 0]);
  });

  it("shared memory regions; one that is not there has length and base -1", () => {
    const region = (select: number): string[] => {
      registers.set(REGISTER.sharedMemorySelect, select);
      return [REGISTER.sharedMemoryLength, REGISTER.sharedMemoryBase].map((at) =>
        (BigInt(registers.get(at)) | (BigInt(registers.get(at + 4)) << 32n)).toString(16),
      );
    };
    expect(region(0)).toEqual(["100002000", "1234567000"]);
    expect(region(1)).toEqual(["f".repeat(16), "f".repeat(16)]);
  });

  it("the configuration, at any width, zero behind its end", () => {
    const at = (offset: number, size: number): bigint => registers.read(REGISTER.config + offset, size);
    expect([at(0, 1), at(1, 2), at(0, 4), at(0, 8)]).toEqual([1n, 0x302n, 0x4030201n, 0x60504030201n]);
    expect([at(5, 4), at(6, 1), at(2 ** 31, 8)]).toEqual([6n, 0n, 0n]);
  });

  it("zero, where it reads a control register in another width or place", () => {
    expect(registers.read(REGISTER.magic, 1)).toBe(0n);
    expect(registers.read(REGISTER.magic, 8)).toBe(0n);
    expect(registers.read(REGISTER.magic + 1, 4)).toBe(0n);
    expect(registers.write(REGISTER.status, 1, 1n)).toEqual({ kind: "none" });
    expect(registers.get(REGISTER.status)).toBe(0);
  });
});

describe("features", () => {
  it.each([
    ["what is offered", VERSION_1 | FEATURE, true],
    ["less", VERSION_1, true],
    ["not the current version", FEATURE, false],
    ["more than is offered", VERSION_1 | (1n << 29n), false],
    ["a bit of the upper word that is not offered", VERSION_1 | (1n << 34n), false],
  ])("are settled with FEATURES_OK, or that is not set: %s", (_, features, isOk) => {
    const registers = new Registers().negotiated(features);
    expect((registers.get(REGISTER.status) & STATUS.featuresOk) !== 0).toBe(isOk);
  });

  it("stay as they were settled", () => {
    const registers = new Registers().negotiated();
    registers.set(REGISTER.driverFeaturesSelect, 0);
    registers.set(REGISTER.driverFeatures, 1 << 28);
    expect(registers.withQueue()).toMatchObject({ kind: "queue-start", indirect: false });
  });
});

describe("a queue", () => {
  it("starts with what was written, once", () => {
    const registers = new Registers().negotiated(VERSION_1 | (1n << 28n));
    expect(registers.withQueue()).toEqual({
      kind: "queue-start",
      queue: 1,
      layout: {
        size: 16,
        descriptors: 0x1_0000_1000n,
        available: 0x2_0000_2000n,
        used: 0x3_0000_3000n,
      },
      indirect: true,
    });
    expect(registers.get(REGISTER.queueReady)).toBe(1);
    expect(registers.set(REGISTER.queueReady, 1)).toEqual({ kind: "none" });
  });

  it("keeps its place while it is ready", () => {
    const registers = new Registers().negotiated();
    registers.withQueue();
    registers.set(REGISTER.queueSize, 8);
    registers.set(REGISTER.queueDevice, 4);
    expect(registers.set(REGISTER.queueReady, 0)).toEqual({ kind: "queue-stop", queue: 1 });
    expect(registers.set(REGISTER.queueReady, 1)).toMatchObject({
      layout: { size: 16, used: 0x3_0000_3000n },
    });
  });

  it("has no size above its largest", () => {
    const registers = new Registers().negotiated();
    registers.set(REGISTER.queueSelect, 1);
    registers.set(REGISTER.queueSize, 256);
    expect(registers.set(REGISTER.queueReady, 1)).toMatchObject({ layout: { size: 0 } });
  });

  it.each([
    ["before features are settled", new Registers()],
    [
      "of a device that needs a reset",
      ((registers) => {
        registers.needsReset();
        return registers;
      })(new Registers().negotiated()),
    ],
  ])("does not start %s", (_, registers) => {
    expect(registers.withQueue()).toEqual({ kind: "none" });
    expect(registers.get(REGISTER.queueReady)).toBe(0);
  });

  it("that is not there is nothing", () => {
    const registers = new Registers().live();
    registers.set(REGISTER.queueSelect, 2);
    expect([REGISTER.queueSizeMax, REGISTER.queueReady].map((at) => registers.get(at))).toEqual([0, 0]);
    expect(registers.withQueue(2)).toEqual({ kind: "none" });
    expect(registers.withQueue(0xffff_ffff)).toEqual({ kind: "none" });
    for (const queue of [0, 2, 0xffff_ffff]) {
      expect(registers.set(REGISTER.queueNotify, queue)).toEqual({ kind: "none" });
    }
  });
});

describe("the status", () => {
  it("lets notifications through from DRIVER_OK on, until the device needs a reset", () => {
    const registers = new Registers().negotiated();
    registers.withQueue();
    expect(registers.set(REGISTER.queueNotify, 1)).toEqual({ kind: "none" });
    registers.set(REGISTER.status, STATUS.driverOk);
    expect(registers.set(REGISTER.queueNotify, 1)).toEqual({ kind: "notify", queue: 1 });
    registers.needsReset();
    expect(registers.set(REGISTER.queueNotify, 1)).toEqual({ kind: "none" });
    expect(registers.get(REGISTER.status) & STATUS.needsReset).not.toBe(0);
    expect(registers.interrupts).toBe(INTERRUPT.configuration);
  });

  it("has no DRIVER_OK without FEATURES_OK, and no bit that is the device's to set", () => {
    const registers = new Registers();
    registers.set(REGISTER.status, 0xff);
    expect(registers.get(REGISTER.status)).toBe(STATUS.acknowledge | STATUS.driver | STATUS.failed);
  });

  it("only grows, but for a reset, after which all is as before", () => {
    const registers = new Registers().live();
    registers.interrupt(INTERRUPT.used);
    registers.set(REGISTER.status, STATUS.acknowledge);
    expect(registers.get(REGISTER.status) & STATUS.driverOk).not.toBe(0);
    expect(registers.set(REGISTER.status, 0)).toEqual({ kind: "reset" });
    const fresh = new Registers();
    for (let offset = 0; offset < REGISTER.config; offset += 4) {
      expect([offset, registers.get(offset)]).toEqual([offset, fresh.get(offset)]);
    }
    expect(registers.set(REGISTER.queueNotify, 1)).toEqual({ kind: "none" });
  });
});

describe("interrupts", () => {
  it("stay until they are acknowledged, each by its bit", () => {
    const registers = new Registers().live();
    registers.interrupt(INTERRUPT.used);
    registers.interrupt(INTERRUPT.configuration);
    registers.set(REGISTER.interruptAcknowledge, INTERRUPT.used);
    expect(registers.get(REGISTER.interruptStatus)).toBe(INTERRUPT.configuration);
    registers.set(REGISTER.interruptAcknowledge, 0xffff_ffff);
    expect(registers.interrupts).toBe(0);
  });
});

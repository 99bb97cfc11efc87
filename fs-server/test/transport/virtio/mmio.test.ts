/** A device behind its registers: what is served, what is given back, and what a broken queue stops. */
import { beforeEach, describe, expect, it } from "vitest";
import type { QueueRequest, VirtioDevice } from "../../../src/transport/virtio/device.ts";
import { VirtioMmio } from "../../../src/transport/virtio/mmio.ts";
import { INTERRUPT, REGISTER, STATUS } from "../../../src/transport/virtio/registers.ts";
import { Driver, TestMemory } from "./driver.ts";

const SIZE = 8;
const DATA = 0x2_0000n;
const NO_INTERRUPT = 1;

class EchoDevice implements VirtioDevice {
  readonly id = 1;
  readonly features = 0n;
  readonly config = new Uint8Array(0);
  readonly queueSizes = [SIZE, SIZE];
  readonly sharedMemory = [];
  readonly served: number[] = [];
  readonly kept: QueueRequest[] = [];
  resets = 0;
  /** Requests are completed by the test. */
  keeps = false;
  onServe: () => void = () => undefined;

  serve(queue: number, request: QueueRequest): void {
    this.served.push(queue);
    this.onServe();
    if (this.keeps) this.kept.push(request);
    else request.complete(0);
  }
  msUntilDue(): number | null {
    return this.kept.length > 0 ? 20 : null;
  }
  handleDue(): void {
    for (const request of this.kept.splice(0)) request.complete(0);
  }
  reset(): void {
    this.resets += 1;
  }
}

let device: EchoDevice;
let mmio: VirtioMmio;
let driver: Driver;
let ram: TestMemory;
let faults: string[];

beforeEach(() => {
  device = new EchoDevice();
  ram = new TestMemory();
  faults = [];
  mmio = new VirtioMmio(device, ram.memory, (reason) => faults.push(reason));
  driver = new Driver(mmio, ram, { layout: "direct" });
  driver.probe(SIZE);
});

const readable = (gpa = DATA): { gpa: bigint; lengthBytes: number; isWritable: boolean } => ({
  gpa,
  lengthBytes: 4,
  isWritable: false,
});

let offered = 0;

/** Publishes one chain without a notification. */
function offer(queue = 0): void {
  offered += 1;
  const head = offered % SIZE;
  const { descriptors } = driver.queue(queue);
  driver.queue(queue).write(descriptors, head, { gpa: DATA, length: 4, flags: 0, next: 0 });
  driver.queue(queue).offer(head, { descriptors: [], done: () => undefined });
}

describe("a notification", () => {
  it("serves what is available in its queue, and raises the interrupt until it is acknowledged", () => {
    offer();
    offer();
    offer(1);
    driver.set32(REGISTER.queueNotify, 0);
    expect(device.served).toEqual([0, 0]);
    expect(mmio.irqPending()).toBe(true);
    expect(driver.get32(REGISTER.interruptStatus)).toBe(INTERRUPT.used);
    driver.set32(REGISTER.interruptAcknowledge, INTERRUPT.used);
    expect(mmio.irqPending()).toBe(false);
    expect(driver.queue(0).collect()).toBe(2);
  });

  it("raises none where the driver wants none", () => {
    ram.store(driver.queue(0).available, new Uint8Array([NO_INTERRUPT, 0]));
    offer();
    driver.set32(REGISTER.queueNotify, 0);
    expect(mmio.irqPending()).toBe(false);
    expect(driver.queue(0).collect()).toBe(1);
  });

  it("of a queue that was stopped serves nothing", () => {
    offer();
    driver.set32(REGISTER.queueSelect, 0);
    driver.set32(REGISTER.queueReady, 0);
    driver.set32(REGISTER.queueNotify, 0);
    expect(device.served).toEqual([]);
  });
});

describe("a guest that adds chains while the device serves", () => {
  it("keeps it for as many as the queue has entries; the rest is work for later", () => {
    device.onServe = () => {
      driver.queue(0).collect();
      offer();
    };
    offer();
    driver.set32(REGISTER.queueNotify, 0);
    expect(device.served).toHaveLength(SIZE);
    expect(mmio.work()).toBe(0);
    expect(device.served).toHaveLength(2 * SIZE);
    device.onServe = () => undefined;
    expect(mmio.work()).toBe(null);
    expect(device.served).toHaveLength(2 * SIZE + 1);
    expect(mmio.work()).toBe(null);
  });
});

describe("a broken queue", () => {
  const breakIt = (): void => {
    driver.queue(0).offer(SIZE, { descriptors: [], done: () => undefined });
    driver.set32(REGISTER.queueNotify, 0);
  };

  it("needs a reset: the driver is told, and nothing is served or given back in any queue until then", () => {
    device.keeps = true;
    offer(1);
    driver.set32(REGISTER.queueNotify, 1);
    const [late] = device.kept;
    breakIt();
    expect(faults).toEqual([`descriptor ${SIZE} of a table of ${SIZE}`]);
    expect(driver.get32(REGISTER.status) & STATUS.needsReset).toBe(STATUS.needsReset);
    expect(driver.get32(REGISTER.interruptStatus)).toBe(INTERRUPT.configuration);
    expect(mmio.needsReset).toBe(true);
    late?.complete(0);
    expect(late?.isRevoked).toBe(true);
    expect(driver.queue(1).collect()).toBe(0);
    offer(1);
    driver.set32(REGISTER.queueNotify, 1);
    expect(mmio.work()).not.toBe(0);
    expect(device.served).toEqual([1]);
  });

  it("works again after one", () => {
    breakIt();
    driver.probe(SIZE);
    expect(mmio.needsReset).toBe(false);
    const back: number[] = [];
    driver.sendRaw(0, [readable()], (used) => back.push(used));
    expect(back).toEqual([0]);
    expect(faults).toHaveLength(1);
  });

  it.each([
    ["its rings are not in memory", REGISTER.queueDescriptors, 0x7000_0000],
    ["its size is no power of two", REGISTER.queueSize, 6],
  ])("is found when it is set up: %s", (_, register, value) => {
    driver.set32(REGISTER.queueSelect, 1);
    driver.set32(REGISTER.queueReady, 0);
    driver.set32(register, value);
    driver.set32(REGISTER.queueReady, 1);
    expect(mmio.needsReset).toBe(true);
    expect(faults).toHaveLength(1);
  });
});

describe("requests that are kept for later", () => {
  it("are completed when due, once", () => {
    device.keeps = true;
    offer();
    driver.set32(REGISTER.queueNotify, 0);
    expect(mmio.irqPending()).toBe(false);
    const [kept] = device.kept;
    expect(mmio.work()).toBe(null);
    expect(mmio.irqPending()).toBe(true);
    kept?.complete(0);
    expect(driver.queue(0).collect()).toBe(1);
  });

  it.each([
    ["a reset", () => driver.set32(REGISTER.status, 0)],
    [
      "the end of their queue",
      () => {
        driver.set32(REGISTER.queueSelect, 0);
        driver.set32(REGISTER.queueReady, 0);
      },
    ],
  ])("are nobody's after %s: not one byte is written", (_, end) => {
    device.keeps = true;
    offer();
    driver.set32(REGISTER.queueNotify, 0);
    const [kept] = device.kept;
    end();
    const before = ram.snapshot();
    kept?.complete(4);
    expect(kept?.isRevoked).toBe(true);
    expect(ram.snapshot().equals(before)).toBe(true);
    expect(mmio.irqPending()).toBe(false);
  });
});

describe("a reset", () => {
  it("resets the device and its queues", () => {
    driver.set32(REGISTER.status, 0);
    expect(device.resets).toBe(2);
    offer();
    driver.set32(REGISTER.queueNotify, 0);
    expect(device.served).toEqual([]);
  });
});

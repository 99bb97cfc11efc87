import { Worker } from "node:worker_threads";
import { describe, expect, it } from "vitest";
import { compiledEntry } from "../../sys/src/index.ts";
import {
  ConsoleRing,
  createLinuxDevices,
  Mailbox,
  SharedPorts,
  WatchedAccess,
} from "../src/linux-devices.ts";

describe("ConsoleRing", () => {
  it("gives the bytes back in order, across its end, and counts those that were lost", () => {
    const devices = createLinuxDevices();
    const [writer, reader] = [new ConsoleRing(devices), new ConsoleRing(devices)];
    for (let turn = 0; turn < 3; turn++) {
      for (let i = 0; i < 50_000; i++) writer.write((i + turn) & 0xff);
      const bytes = reader.take();
      expect(bytes.length).toBe(50_000);
      expect(bytes.every((byte, i) => byte === ((i + turn) & 0xff))).toBe(true);
    }
    expect(reader.isEmpty).toBe(true);
    for (let i = 0; i < 65_536 + 10; i++) writer.write(1);
    expect(reader.lostBytes).toBe(10);
    expect(reader.take().length).toBe(65_536);
  });
});

describe("Mailbox", () => {
  it("carries an access to the owner and the answer back, 64 bits wide", async () => {
    const devices = createLinuxDevices();
    const worker = new Worker(
      `const { workerData, parentPort } = require("node:worker_threads");
       import(workerData.module).then(({ Mailbox }) => {
         const mailbox = new Mailbox(workerData.devices, 1);
         const ask = (value) => mailbox.ask(
           { device: 2, offset: 0x50, size: 8, value }, () => parentPort.postMessage("asked"), () => true);
         parentPort.postMessage([ask(null), ask(0x8000000180000001n)]);
       });`,
      {
        eval: true,
        workerData: { devices, module: compiledEntry(import.meta.url, "../src/linux-devices.ts").href },
      },
    );
    const owner = new Mailbox(devices, 1);
    const asked: unknown[] = [];
    const answers = await new Promise((resolve) => {
      worker.on("message", (message) => {
        if (message !== "asked") return resolve(message);
        asked.push(owner.asked());
        owner.answer(0xfedcba9876543210n);
      });
    });
    await worker.terminate();
    const access = { device: 2, offset: 0x50, size: 8 };
    expect(asked).toEqual([
      { ...access, value: null },
      { ...access, value: 0x8000000180000001n },
    ]);
    expect(answers).toEqual([0xfedcba9876543210n, 0xfedcba9876543210n]);
    expect(owner.asked()).toBeNull();
  });

  it("gives up when the machine stops, and only then", () => {
    const mailbox = new Mailbox(createLinuxDevices(), 0);
    let looks = 0;
    const access = { device: 0, offset: 0, size: 4, value: null };
    const answer = mailbox.ask(
      access,
      () => {},
      () => ++looks < 3,
    );
    expect(answer).toBeNull();
    expect(looks).toBe(3);
  });

  it("keeps the vCPUs' questions apart", () => {
    const devices = createLinuxDevices();
    new Mailbox(devices, 0).ask(
      { device: 1, offset: 4, size: 4, value: 9n },
      () => {},
      () => false,
    );
    expect(new Mailbox(devices, 1).asked()).toBeNull();
    expect(new Mailbox(devices, 0).asked()).toEqual({ device: 1, offset: 4, size: 4, value: 9n });
  });
});

describe("SharedPorts and WatchedAccess", () => {
  it("give the lock back, also after an error", () => {
    const ports = new SharedPorts(createLinuxDevices());
    expect(() =>
      ports.locked(() => {
        throw new Error("a device's");
      }),
    ).toThrow("a device's");
    expect(ports.locked(() => 7)).toBe(7);
  });

  it("numbers the accesses that are watched", () => {
    const watched = new WatchedAccess(createLinuxDevices());
    expect(watched.pending).toBe(0);
    watched.set(true);
    expect([watched.pending, watched.begun]).toEqual([1, 1]);
    watched.set(false);
    watched.set(true);
    expect([watched.pending, watched.begun]).toEqual([2, 2]);
  });
});

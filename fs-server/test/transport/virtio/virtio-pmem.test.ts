import { describe, expect, it } from "vitest";
import { VirtioMmio } from "../../../src/transport/virtio/mmio.ts";
import { REGISTER } from "../../../src/transport/virtio/registers.ts";
import { VirtioPmem } from "../../../src/transport/virtio/virtio-pmem.ts";
import { Driver, TestMemory } from "./driver.ts";

function started(flush: () => number): Driver {
  const ram = new TestMemory();
  const device = new VirtioPmem({ gpa: 2n ** 33n, lengthBytes: 2n ** 27n, flush });
  const driver = new Driver(new VirtioMmio(device, ram.memory), ram);
  driver.probe();
  return driver;
}

function asked(driver: Driver, request: number[], roomBytes = 4): number[] {
  const answers: number[][] = [];
  driver.send(0, new Uint8Array(request), roomBytes, (answer) => answers.push([...answer]));
  expect(answers).toHaveLength(1);
  return answers[0] ?? [];
}

describe("a pmem device", () => {
  it("says where the memory is", () => {
    const driver = started(() => 0);
    expect(driver.get32(REGISTER.deviceId)).toBe(27);
    const at = (offset: number): bigint => driver.device.read(REGISTER.config + offset, 8);
    expect([at(0), at(8)]).toEqual([2n ** 33n, 2n ** 27n]);
    expect(driver.queues).toHaveLength(1);
  });

  it("flushes the file, and says if that failed", () => {
    let flushes = 0;
    let result = 0;
    const driver = started(() => {
      flushes += 1;
      return result;
    });
    expect(asked(driver, [0, 0, 0, 0])).toEqual([0, 0, 0, 0]);
    result = -5;
    expect(asked(driver, [0, 0, 0, 0])).toEqual([1, 0, 0, 0]);
    expect(flushes).toBe(2);
  });

  it.each([
    ["an unknown request", [1, 0, 0, 0], 4, [1, 0, 0, 0]],
    ["a request cut short", [0, 0, 0], 4, []],
    ["no room for the answer", [0, 0, 0, 0], 3, []],
  ])("flushes nothing for %s", (_, request, room, answer) => {
    const driver = started(() => {
      throw new Error("flushed");
    });
    expect(asked(driver, request, room)).toEqual(answer);
  });
});

/** Who is inside the gate of a vhost-user device, where it is closed for good while somebody is. */
import { beforeEach, describe, expect, it } from "vitest";
import { GATE_WORDS, Gate } from "../../../src/transport/vhost-user/gate.ts";

let gate: Gate;
beforeEach(() => {
  gate = new Gate(new Int32Array(new SharedArrayBuffer(4 * GATE_WORDS)), 0);
});

describe("a gate that is closed", () => {
  it("is empty when the last reader has left", () => {
    gate.enter();
    const open = gate.close();
    expect([gate.isEmpty, gate.isWanted]).toEqual([false, true]);
    gate.leave();
    expect([gate.isEmpty, gate.isWanted]).toEqual([true, true]);
    open();
    expect([gate.isEmpty, gate.isWanted]).toEqual([true, false]);
  });

  it("is not empty while a writer is at work, and stays closed when that is done", () => {
    const open = gate.alone(() => {
      const opening = gate.close();
      expect(gate.isEmpty).toBe(false);
      return opening;
    });
    expect([gate.isEmpty, gate.isWanted]).toEqual([true, true]);
    open();
    expect(gate.alone(() => gate.isEmpty)).toBe(false);
    gate.enter();
    expect([gate.isEmpty, gate.isWanted]).toEqual([false, false]);
  });
});

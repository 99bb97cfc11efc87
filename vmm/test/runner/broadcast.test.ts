/** Every vCPU comes once to every round of machine checks, and no round is of nobody's. */
import { describe, expect, it } from "vitest";
import type { SignalledVcpu } from "../../src/arch/index.ts";
import { Broadcasts } from "../../src/runner/broadcast.ts";
import { controlWords } from "../../src/runner/messages.ts";

const MCIP = 4n;

/** A vCPU whose guest is in its handler from the signal until `done`. */
class FakeVcpu implements SignalledVcpu {
  readonly broadcasts: Broadcasts;
  status = 0n;
  hasInterruptsOn = true;
  isStarted = true;
  /** `own` and `other's`, in their order. */
  readonly taken: string[] = [];

  constructor(control: Int32Array, cpu: number) {
    this.broadcasts = new Broadcasts(control, cpu);
  }

  control4(): bigint {
    return this.isStarted ? 0x40n : 0n;
  }

  getMsr(): bigint {
    return this.status;
  }

  setMsr(): boolean {
    return true;
  }

  interruptsOn(): boolean {
    return this.hasInterruptsOn;
  }

  injectMachineCheck({ bank }: { readonly bank: number }): void {
    this.taken.push(bank === 9 ? "own" : "other's");
    this.status = MCIP;
  }

  /** An exit for a lost page. */
  error(): void {
    this.injectMachineCheck({ bank: 9 });
    this.broadcasts.own();
  }

  enter(): void {
    this.broadcasts.take(this);
  }

  done(): void {
    this.status = 0n;
  }
}

function threeVcpus() {
  const control = new Int32Array(new SharedArrayBuffer(4 * controlWords));
  const [first, second, third] = [0, 1, 2].map((cpu) => new FakeVcpu(control, cpu));
  if (first === undefined || second === undefined || third === undefined) throw new Error("three");
  return { first, second, third, all: [first, second, third] };
}

describe("a round of machine checks", () => {
  it("is one for each, an own one for the vCPU with the error", () => {
    const { first, all } = threeVcpus();
    first.error();
    for (let entry = 0; entry < 3; entry++) for (const vcpu of all) vcpu.enter();
    expect(all.map(({ taken }) => taken)).toEqual([["own"], ["other's"], ["other's"]]);
  });

  it("is joined by a vCPU that has an error while it is open", () => {
    const { first, second, all } = threeVcpus();
    first.error();
    second.error();
    for (let entry = 0; entry < 3; entry++) {
      for (const vcpu of all) vcpu.enter();
      for (const vcpu of all) vcpu.done();
    }
    expect(all.map(({ taken }) => taken)).toEqual([["own"], ["own"], ["other's"]]);
  });

  it("is followed by another one for an error after it, which waits for the handlers", () => {
    const { first, second, third, all } = threeVcpus();
    first.error();
    for (const vcpu of all) vcpu.enter();
    second.done();
    second.error();
    for (const vcpu of all) vcpu.enter();
    expect(first.taken).toEqual(["own"]);
    for (const vcpu of [first, third]) vcpu.done();
    for (const vcpu of all) vcpu.enter();
    expect(all.map(({ taken }) => taken)).toEqual([
      ["own", "other's"],
      ["other's", "own"],
      ["other's", "other's"],
    ]);
  });

  it("that has waited for a handler waits for its return, too", () => {
    const { first, second } = threeVcpus();
    second.status = MCIP;
    first.error();
    second.enter();
    second.done();
    second.hasInterruptsOn = false;
    second.enter();
    expect(second.taken).toEqual([]);
    second.hasInterruptsOn = true;
    second.enter();
    expect(second.taken).toEqual(["other's"]);
  });

  it("passes a vCPU by that has not been started", () => {
    const { first, second } = threeVcpus();
    second.isStarted = false;
    first.error();
    second.enter();
    second.isStarted = true;
    second.enter();
    expect(second.taken).toEqual([]);
  });
});

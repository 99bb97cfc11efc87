/** What the samples of counting tasks say of a wait. */
import { describe, expect, it } from "vitest";
import { Waiting } from "../../../src/engines/kvm/waiting.ts";

/** Samples every 10 ms; `count` of the one bystander at each, `pending` while true. */
function growth(samples: readonly { readonly count: number; readonly pending: string | null }[]) {
  const waiting = new Waiting();
  for (const [index, { count, pending }] of samples.entries()) {
    waiting.sample(10 * index, [BigInt(count)], pending === null ? [] : [pending]);
  }
  return waiting.growth;
}

const during = (length: number, count: (index: number) => number, pending: string | null = "0/1") =>
  Array.from({ length }, (_, index) => ({ count: count(index), pending }));

describe("Waiting", () => {
  it("says nothing where no access waited long enough", () => {
    expect(growth(during(40, (index) => index, null))).toBeNull();
    expect(growth(during(25, (index) => index))).toBeNull();
    expect(growth(during(26, (index) => index))).toEqual([5n]);
  });

  it("tells who got on from who did not", () => {
    expect(growth(during(40, (index) => index))).toEqual([19n]);
    expect(growth(during(40, () => 5))).toEqual([0n]);
  });

  it("leaves out what was counted before the access faulted, and after it had come back", () => {
    const preempted = during(9, (index) => index);
    const blocked = during(31, () => 8);
    expect(growth([...preempted, ...blocked, ...during(20, (index) => 100 + index, null)])).toEqual([0n]);
  });

  it("leaves out a task that the timer ran when the page was there and before the access was tried again", () => {
    const blocked = during(40, () => 8);
    const preempted = during(9, (index) => 9 + index);
    expect(growth([...blocked, ...preempted])).toEqual([0n]);
  });

  it("does not take for a wait what the VMM was asked about: its vCPU was out of the guest", () => {
    const waiting = new Waiting();
    for (let index = 0; index < 40; index += 1) {
      waiting.sample(10 * index, [5n], ["0/1"]);
      if (index === 36) waiting.answered();
    }
    expect(waiting.growth).toBeNull();
    for (let index = 40; index < 80; index += 1) waiting.sample(10 * index, [BigInt(index)], ["0/2"]);
    expect(waiting.growth).toEqual([19n]);
  });

  it("takes the longest of several waits, and no two accesses for one", () => {
    const short = during(30, (index) => index);
    const long = during(50, () => 9, "0/2");
    expect(growth([...short, ...long])).toEqual([0n]);
    expect(
      growth(Array.from({ length: 60 }, (_, index) => ({ count: index, pending: `0/${index}` }))),
    ).toBeNull();
  });
});

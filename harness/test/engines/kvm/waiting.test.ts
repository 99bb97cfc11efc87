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
    expect(growth(during(20, (index) => index, null))).toBeNull();
    expect(growth(during(7, (index) => index))).toBeNull();
  });

  it("tells who got on from who did not", () => {
    expect(growth(during(20, (index) => index))).toEqual([9n]);
    expect(growth(during(20, () => 5))).toEqual([0n]);
  });

  it("leaves out what was counted before the access faulted, and after it had come back", () => {
    const preempted = during(2, (index) => index);
    const blocked = during(18, () => 1);
    expect(growth([...preempted, ...blocked, ...during(20, (index) => 100 + index, null)])).toEqual([0n]);
  });

  it("takes the longest of several waits, and no two accesses for one", () => {
    const short = during(10, (index) => index);
    const long = during(30, () => 9, "0/2");
    expect(growth([...short, ...long])).toEqual([0n]);
    expect(
      growth(Array.from({ length: 40 }, (_, index) => ({ count: index, pending: `0/${index}` }))),
    ).toBeNull();
  });
});

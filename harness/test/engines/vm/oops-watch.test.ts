import { describe, expect, it } from "vitest";
import { OopsWatch } from "../../../src/engines/vm/oops-watch.ts";

describe("OopsWatch", () => {
  it("says of an access that does not end how long it has hung, once", () => {
    const watch = new OopsWatch(1000);
    watch.oopsed(["0/3/7"], 500);
    expect(watch.sample(["0/3/7"], 1499)).toBeNull();
    expect(watch.sample(["0/3/7"], 1500)).toBe(1000);
    expect(watch.sample(["0/3/7"], 9000)).toBeNull();
  });

  it("says nothing of a task that the oops has ended, nor of one that has got on", () => {
    const watch = new OopsWatch(1000);
    watch.oopsed(["0/3/7"], 0);
    expect(watch.sample([], 10)).toBeNull();
    expect(watch.isActive).toBe(false);
    watch.oopsed(["0/3/7"], 0);
    // The same step's next access.
    expect(watch.sample(["0/3/8"], 5000)).toBeNull();
  });

  it("waits on for the other one of two accesses", () => {
    const watch = new OopsWatch(1000);
    watch.oopsed(["0/3/7", "1/0/9"], 0);
    expect(watch.sample(["1/0/9"], 999)).toBeNull();
    expect(watch.sample(["1/0/9"], 1000)).toBe(1000);
  });

  it("counts from the last word of the oops, and from another one", () => {
    const watch = new OopsWatch(1000);
    watch.oopsed(["0/3/7"], 0);
    watch.oopsed(["0/3/7"], 900);
    expect(watch.sample(["0/3/7"], 1800)).toBeNull();
  });

  it("is idle without an access under way", () => {
    const watch = new OopsWatch(1000);
    watch.oopsed([], 0);
    expect(watch.isActive).toBe(false);
  });
});

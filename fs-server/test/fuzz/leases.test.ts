/** Hostile clients of the lease socket, for a moment; fuzz-main has them for longer. */
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { fuzzLeases } from "../../src/fuzz/leases.ts";

it.each([1, 4])(
  "hostile clients delay a truncation by no more than its bound, and leave nothing behind (seed %s)",
  async (seed) => {
    const figures = await fuzzLeases({ path: join(temporaryDirectory(), "leases"), seed, messages: 800 });
    expect(figures.failures).toEqual([]);
    for (const kind of ["granted", "refused", "recalls", "closed"] as const) {
      expect(figures[kind], kind).toBeGreaterThan(0);
    }
    expect(figures.truncations).toBeGreaterThan(20);
  },
);

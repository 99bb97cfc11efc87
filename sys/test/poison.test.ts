import { describe, expect, it } from "vitest";
import { isPageThere, mapAnonymous, mapPoisonedPage, PAGE_SIZE, poisonRefusal } from "../src/index.ts";

const refusal = poisonRefusal();
const note = refusal === null ? "" : ` (skipped: ${refusal})`;

describe("isPageThere", () => {
  it("faults a page in where there is one, and says no where nothing is mapped", () => {
    const { address, free } = mapAnonymous(PAGE_SIZE);
    expect([isPageThere(address, "read"), isPageThere(address, "write")]).toEqual([true, true]);
    free();
    expect(isPageThere(address, "read")).toBe(false);
  });
});

describe.skipIf(refusal !== null)(`mapPoisonedPage${note}`, () => {
  it("takes the place of one page, for good, and leaves its neighbours alone", () => {
    const { address, bytes, free } = mapAnonymous(3 * PAGE_SIZE);
    bytes.fill(0x41);
    const middle = address + BigInt(PAGE_SIZE);
    mapPoisonedPage(middle);
    expect([isPageThere(middle, "read"), isPageThere(middle, "write")]).toEqual([false, false]);
    expect([bytes[0], bytes[2 * PAGE_SIZE]]).toEqual([0x41, 0x41]);
    free();
  });
});

import { describe, expect, it } from "vitest";
import type { Header } from "../../../src/core/request.ts";
import { hasSysAdmin, isAdministrator } from "../../../src/transport/devfuse/administrator.ts";

describe("CAP_SYS_ADMIN of a caller", () => {
  it.each([
    ["CapPrm:\t000001ffffffffff\nCapEff:\t0000000000200000\n", true],
    ["CapPrm:\t000001ffffffffff\nCapEff:\t000001ffffdfffff\n", false],
    ["CapEff:\t0000000000000000\n", false],
    ["CapEff:\n", false],
    ["", false],
  ])("%j: %s", (status, has) => {
    expect(hasSysAdmin(status)).toBe(has);
  });

  it("is unknown, and so refused, of callers that cannot be seen", () => {
    for (const pid of [0, 0xffffffff]) expect(isAdministrator({ pid } as Header)).toBe(false);
  });
});

import { describe, expect, it } from "vitest";
import { accessText } from "../../../language/src/index.ts";
import { errnoName, failedAccess } from "../../src/engines/step-result.ts";

describe("failedAccess", () => {
  it.each([
    ["efault", 0, "efault"],
    ["sigbus", 2, "sigbus(BUS_ADRERR)"],
    ["sigbus", 4, "sigbus(BUS_MCEERR_AR)"],
    ["sigbus", 0x80, "sigbus(SI_KERNEL)"],
    ["sigbus", 77, "sigbus(si_code=77)"],
    ["sigsegv", 2, "sigsegv(SEGV_ACCERR)"],
    ["sigsegv", 0x80, "sigsegv(SI_KERNEL)"],
    ["errno", 5, "errno(EIO)"],
    ["short", 4, "short(4)"],
    ["not-reached", 0, null],
    ["started", 0, null],
    ["done", 0, null],
  ] as const)("%s %d is %s", (status, number, text) => {
    const access = failedAccess({ status, number });
    expect(access === null ? null : accessText(access)).toBe(text);
  });
});

describe("errnoName", () => {
  it.each([
    [5, "EIO"],
    [28, "ENOSPC"],
    [511, "511"],
  ])("%d is %s", (number, name) => {
    expect(errnoName(number)).toBe(name);
  });
});

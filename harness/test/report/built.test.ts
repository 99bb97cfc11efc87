import { describe, expect, it } from "vitest";
import { builtText, guestBuiltText } from "../../src/report/built.ts";

const sha256 = "0".repeat(64);

describe("what of a kernel was built here", () => {
  it.each([
    [[], "today", null],
    [[], "final-efault", "kvm=final-efault"],
    [["a", "./b.patch"], "today", `with a (SHA-256 ${sha256}), ./b.patch (SHA-256 ${sha256}): kvm=today`],
  ] as const)("of %j and kvm=%s", (names, kvm, text) => {
    expect(builtText({ patches: names.map((name) => ({ name, sha256 })), kvm })).toBe(text);
  });

  it("of a guest's", () => {
    expect(guestBuiltText([])).toBe("");
    expect(guestBuiltText([{ name: "a", sha256 }])).toBe(` with a (SHA-256 ${sha256})`);
  });
});

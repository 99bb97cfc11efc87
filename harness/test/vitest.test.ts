/** The helper for other projects' tests. */
import { describe, expect, it, vi } from "vitest";
import { expectVerdict, VerdictError } from "../src/vitest.ts";

const spec = { scenario: "load-after-truncate", proposal: "apf-loop", engine: "model" } as const;

describe("expectVerdict", () => {
  it("gives the result of a case that comes out as expected", async () => {
    const { verdict, result } = await expectVerdict(spec);
    expect(verdict.kind).toBe("pass");
    expect(result?.kind === "evidence" && result.evidence.observations.vmm?.[0]?.kind).toBe("looping");
  });

  it("fails with what was seen and how to run it again", async () => {
    const failure = expectVerdict(spec, ["fail", "xpass"]);
    await expect(failure).rejects.toThrow(VerdictError);
    await expect(failure).rejects.toThrow(
      /is pass, not fail or xpass[\s\S]*VMM: looping[\s\S]*daxfault run load-after-truncate --proposal apf-loop/,
    );
  });

  it("takes the test's own expectation in place of the project's", async () => {
    const hung = { vmm: ["looping"], accesses: { "victim.last": "hung" } };
    expect((await expectVerdict({ ...spec, expect: hung })).expectation?.rule).toBe("the test");
    const stopped = { vmm: ["stopped(efault)"], accesses: { "victim.last": "killed" } };
    expect((await expectVerdict({ ...spec, expect: stopped }, "fail")).verdict.kind).toBe("fail");
  });

  it("skips the test where the case cannot run, if it has the test's context", async () => {
    const impossible = { ...spec, engine: "process" } as const;
    const skip = vi.fn();
    await expectVerdict(impossible, "pass", { skip });
    expect(skip).toHaveBeenCalledWith(expect.stringMatching(/\w/));
    await expect(expectVerdict(impossible)).rejects.toThrow("is skip, not pass");
    expect((await expectVerdict(impossible, "skip")).verdict.kind).toBe("skip");
  });

  it.each([
    [{ scenario: "nosuch" }, 'no scenario "nosuch"'],
    [{ proposal: "nosuch" }, 'no proposal "nosuch"'],
    [{ scenario: "hang-without-apf", proposal: "poison" }, "is about apf-loop"],
    [{ scenario: "./nosuch.json" }, "ENOENT"],
  ])("refuses %j", async (changes, message) => {
    await expect(expectVerdict({ ...spec, ...changes })).rejects.toThrow(message);
  });
});

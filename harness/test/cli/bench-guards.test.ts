/** What `daxfault bench guards` refuses before anything runs, and what it says where there is no place for a Linux guest. */
import { afterEach, describe, expect, it, vi } from "vitest";
import { exitCodes } from "../../../language/src/index.ts";
import { type BenchGuardsOptions, benchGuardsCommand } from "../../src/cli/bench-guards.ts";

afterEach(() => {
  vi.unstubAllEnvs();
  vi.restoreAllMocks();
});

describe("bench guards", () => {
  it.each<[BenchGuardsOptions, string | RegExp]>([
    [{ guest: "micro", way: ["truncate"] }, "--way truncate: only with --guest linux"],
    [{ guest: "micro", kernel: "debian:6.12" }, "--kernel debian:6.12: only with --guest linux"],
    [{ guest: "micro", guestKernel: "debian:6.1" }, "--guest-kernel debian:6.1: only with --guest linux"],
    [{ guest: "linux", rounds: "0" }, /--rounds/],
    [{ guest: "linux", way: ["by-mail"] }, /by-mail/],
    [{ guest: "linux", kernel: "windows:11" }, /^--kernel: /],
    [{ guest: "linux", guestKernel: "windows:11" }, /^--guest-kernel: /],
    [
      { guest: "linux", guard: ["sealed"], way: ["by-mount", "ftruncate-old-fd"] },
      /guard sealed sees none of these/,
    ],
  ])("refuses %j", async (options, message) => {
    await expect(benchGuardsCommand(options)).rejects.toThrow(message);
  });

  it.each<[BenchGuardsOptions, string, string]>([
    [{ guest: "linux" }, "DAXFAULT_NO_KVM", "kvm: DAXFAULT_NO_KVM=1 says so"],
    [{ guest: "linux", kernel: "debian:6.12" }, "DAXFAULT_NO_QEMU", "there is no qemu-system-x86_64"],
  ])("has nothing to run with %j and %s", async (options, name, reason) => {
    vi.stubEnv(name, "1");
    const said = vi.spyOn(console, "error").mockImplementation(() => {});
    expect(await benchGuardsCommand(options)).toBe(exitCodes.nothingRan);
    expect(said.mock.calls.flat().join()).toContain(`daxfault bench guards: ${reason}`);
  });
});

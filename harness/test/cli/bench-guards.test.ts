/** What `daxfault bench guards` refuses before anything runs, and what it says where there is no place for a Linux guest. */
import { describe, expect, it } from "vitest";
import { exitCodes } from "../../../language/src/index.ts";
import { type BenchGuardsOptions, benchGuardsCommand } from "../../src/cli/bench-guards.ts";
import { cli } from "../support/cli.ts";

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

  // What this machine has is probed once a process, so each is one of its own.
  it.each([
    [[], "DAXFAULT_NO_KVM", "kvm: DAXFAULT_NO_KVM=1 says so"],
    [["--kernel", "debian:6.12"], "DAXFAULT_NO_QEMU", "there is no qemu-system-x86_64"],
  ])("has nothing to run with --guest linux %j and %s", async (args, name, reason) => {
    const command = ["bench", "guards", "--guest", "linux", ...args];
    const { code, stderr } = await cli(command, { env: { [name]: "1" } });
    expect(code).toBe(exitCodes.nothingRan);
    expect(stderr).toContain(`daxfault bench guards: ${reason}`);
  });
});

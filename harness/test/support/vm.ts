/** Tests that boot a kernel in a VM: minutes under emulation, so not part of every `npm test`. */
import { findQemu } from "../../src/kernel/qemu.ts";

/** The kernel that they boot; .ci/run boots it, too. */
export const VM_KERNEL = "debian:6.12";

/** Why they are not run; null: they are. */
export const noVm: string | null =
  process.env.DAXFAULT_LONG === undefined
    ? "only with DAXFAULT_LONG=1 (npm run test:long)"
    : findQemu() === null
      ? "there is no QEMU"
      : null;

/** A test's own limit: some boots under emulation, on a machine that has other work. */
export const VM_TEST_BOUND_MS = 300_000;

/** Whether this machine's KVM gives its guests nested page tables (two-dimensional paging), or shadows their own. */
import { readFileSync } from "node:fs";

const PARAMETERS: readonly string[] = [
  "/sys/module/kvm_amd/parameters/npt",
  "/sys/module/kvm_intel/parameters/ept",
];

/** False where no module says so: kvm_pvm has no such parameter, and shadows. */
export function hasNestedPaging(): boolean {
  return PARAMETERS.some((path) => {
    try {
      return /^[Y1]/.test(readFileSync(path, "latin1"));
    } catch {
      return false;
    }
  });
}

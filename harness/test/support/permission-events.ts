/** Whether this machine has permission events before content is accessed. */
import { release } from "node:os";

/** Why there are none; null: there are. */
export function noPermissionEvents(): string | null {
  if (process.getuid?.() !== 0) return "not as root";
  const [major = 0, minor = 0] = release().split(".").map(Number);
  return major > 6 || (major === 6 && minor >= 14) ? null : `Linux ${release()}: FAN_PRE_ACCESS is of 6.14`;
}

import { expect } from "vitest";

/** Waits for what comes in a moment, later where the machine is busy: at most `boundMs`, then it is a failure. */
export async function until(condition: () => boolean, boundMs = 20_000): Promise<void> {
  await expect.poll(condition, { timeout: boundMs, interval: 5 }).toBe(true);
}

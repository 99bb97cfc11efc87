/** The guest's clock in QEMU: no VMM reads its time-stamp counter for us, so doorbells tie it to the host's. Pure. */
import type { GuestClock } from "../../../../../vmm/src/index.ts";

/** A doorbell: the guest's time stamp as it rang, and the host's time when that was noticed. */
export type Anchor = { readonly tsc: bigint; readonly atMs: number };

/** A doorbell is noticed within a millisecond or so: shorter than this its rate would be wrong by percents. */
const SHORTEST_MS = 100;

/** By the first doorbell and the last one; null where they are too close to each other. */
export function clockOf(anchors: readonly Anchor[]): GuestClock | null {
  const [first] = anchors;
  const last = anchors.at(-1);
  if (first === undefined || last === undefined) return null;
  const overMs = last.atMs - first.atMs;
  const ticks = Number(last.tsc - first.tsc);
  if (overMs < SHORTEST_MS || ticks <= 0) return null;
  return { ...last, tscKhz: Math.round(ticks / overMs) };
}

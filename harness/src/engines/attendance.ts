/**
 * Has a thread been attended to? What the machine gave it while it was watched, from looks at it (`ThreadLook`). Pure.
 *
 * A task that got nowhere proves nothing if the thread that would have run it waited for a processor all the while: the
 * machine was busy. It proves something once the thread has had so much time and came no further: on a processor, or
 * asleep in the kernel, which nothing but the kernel decides. Waiting for a processor is in neither.
 *
 *     look     asleep          asleep    waits for a processor    runs      runs
 *     |--------|---------------|---------|------------------------|---------|
 *              |<-- asleepMs ->|         counts for nothing       |<- ran ->|
 *
 * Between two looks that both found it asleep, it slept for what it neither ran nor waited. Of every other interval only
 * the time on a processor is known.
 */
import type { ThreadLook } from "../../../sys/src/index.ts";

export type Share = {
  /** From the first look to the last. */
  readonly overMs: number;
  readonly ranMs: number;
  readonly delayedMs: number;
  /** At least so long. */
  readonly asleepMs: number;
  readonly looks: number;
  readonly asleepLooks: number;
};

export const noShare: Share = {
  overMs: 0,
  ranMs: 0,
  delayedMs: 0,
  asleepMs: 0,
  looks: 0,
  asleepLooks: 0,
};

/**
 * An interval counts for no more than this: where looks are further apart, what looks was itself held up, and so may have
 * been the machine that this one runs in, whose figures know nothing of it.
 */
export const INTERVAL_MS = 25;

/** The time in which the thread would have got on if anything but a processor had allowed it. */
export const attendedMs = ({ ranMs, asleepMs }: Share): number => ranMs + asleepMs;

/** What came to `before` until it was `after`. */
export function shareBetween(before: Share, after: Share): Share {
  return {
    overMs: after.overMs - before.overMs,
    ranMs: after.ranMs - before.ranMs,
    delayedMs: after.delayedMs - before.delayedMs,
    asleepMs: after.asleepMs - before.asleepMs,
    looks: after.looks - before.looks,
    asleepLooks: after.asleepLooks - before.asleepLooks,
  };
}

/** `vCPU 0 ran for 3 ms, slept for 0 ms and waited for a processor for 197 ms, of 200 ms`. */
export function shareText(who: string, share: Share): string {
  const ms = (figure: number): string => `${Math.round(figure)} ms`;
  return (
    `${who} ran for ${ms(share.ranMs)}, slept for ${ms(share.asleepMs)} and waited for a processor ` +
    `for the rest of ${ms(share.overMs)}`
  );
}

/** Adds looks up. */
export class Attendance {
  #last: ThreadLook | null = null;
  #share: Share = noShare;

  /** @param look null: the thread is gone, or the kernel does not say; what is between such looks is not known */
  add(look: ThreadLook | null): void {
    const last = this.#last;
    this.#last = look;
    if (look === null) return;
    const share = this.#share;
    const seen = { looks: share.looks + 1, asleepLooks: share.asleepLooks + (look.isAsleep ? 1 : 0) };
    if (last === null) {
      this.#share = { ...share, ...seen };
      return;
    }
    const ranMs = Math.max(0, look.ranMs - last.ranMs);
    const delayedMs = Math.max(0, look.delayedMs - last.delayedMs);
    const slept = last.isAsleep && look.isAsleep ? look.beforeMs - last.afterMs - ranMs - delayedMs : 0;
    this.#share = {
      ...seen,
      overMs: share.overMs + Math.max(0, look.afterMs - last.afterMs),
      ranMs: share.ranMs + Math.min(ranMs, INTERVAL_MS),
      delayedMs: share.delayedMs + delayedMs,
      asleepMs: share.asleepMs + Math.min(Math.max(0, slept), INTERVAL_MS),
    };
  }

  get share(): Share {
    return this.#share;
  }
}

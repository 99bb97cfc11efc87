/**
 * The kernel's switch of FUSE over io_uring, which is off by default, while tests need it: files of tests run at the same
 * time, so the first one that needs it switches it on, and the last one puts back what was there.
 */
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { setTimeout as sleep } from "node:timers/promises";
import { afterAll, beforeAll } from "vitest";
import { declare } from "../../../sys/src/index.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { noMountBecause } from "./server.ts";

const SWITCH = "/sys/module/fuse/parameters/enable_uring";
/** flock(2) */
const LOCK_SH = 1;
const LOCK_EX = 2;
const LOCK_NB = 4;
const POLL_MS = 50;
const flock = declare<(fd: number, operation: number) => number>("int flock(int fd, int operation)");

function state(): string | null {
  try {
    return readFileSync(SWITCH, "utf8").trim();
  } catch {
    return null;
  }
}

/** Why no mount over io_uring can be tested here, or null. */
export function noUringTestBecause(): string | null {
  if (process.geteuid?.() !== 0) return "needs root to switch FUSE over io_uring on";
  if (state() === null) return "this kernel has no FUSE over io_uring";
  return noMountBecause("devfuse");
}

/** Has the users of the switch as its locks, and what was there before them as its content. */
const path = join(tmpdir(), "daxfault-test-uring-switch");

/** Keeps the switch on until what it returns is called. */
export function uringOn(): () => void {
  const fd = openSync(path, "a");
  flock(fd, LOCK_SH);
  // The first one is alone, and finds nothing noted. Others see it on until the last one has gone.
  if (state() === "N") {
    if (readFileSync(path, "utf8") === "") writeFileSync(path, "N");
    writeFileSync(SWITCH, "Y");
  }
  return () => {
    if (flock(fd, LOCK_EX | LOCK_NB) === 0) {
      const before = readFileSync(path, "utf8");
      if (before !== "") writeFileSync(SWITCH, before);
      writeFileSync(path, "");
    }
    closeSync(fd);
  };
}

/** Switches it off for `work`, once no other file of tests needs it on. */
export async function withUringOff(work: () => Promise<void>): Promise<void> {
  const fd = openSync(path, "a");
  while (flock(fd, LOCK_EX | LOCK_NB) !== 0) await sleep(POLL_MS);
  const before = state();
  try {
    writeFileSync(SWITCH, "N");
    await work();
  } finally {
    if (before !== null) writeFileSync(SWITCH, before);
    closeSync(fd);
  }
}

/** Keeps the switch on for the tests of the calling `describe`, where these options of serve-main need it. */
export function keepUringOnFor(args: readonly string[]): void {
  if (!args.includes("--io-uring")) return;
  let off = (): void => undefined;
  beforeAll(() => {
    off = uringOn();
  });
  afterAll(() => off());
}

/** Why these options of serve-main cannot be tested here, or null. */
export function lackOfMount(args: readonly string[]): string | null {
  return args.includes("--io-uring") ? noUringTestBecause() : noMountBecause("devfuse");
}

export type Way = {
  /** With the reason why it cannot be tested here. */
  readonly title: string;
  readonly args: readonly string[];
  readonly isUsable: boolean;
};

function way(name: string, args: readonly string[], { isOnlyLong = false } = {}): Way {
  const reason = isOnlyLong && !isLong ? "in npm run test:long" : lackOfMount(args);
  return { title: reason === null ? name : `${name} (${reason})`, args, isUsable: reason === null };
}

/** How devfuse gets its requests. */
export const ways: readonly Way[] = [
  way("by /dev/fuse", []),
  way("by io_uring", ["--io-uring"], { isOnlyLong: true }),
];

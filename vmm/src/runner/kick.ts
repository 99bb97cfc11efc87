import { SIGRTMIN } from "../../../sys/src/index.ts";

/** The signal of the watchdog's ticks and of `kickAll`. Nothing else in a Node process uses it. */
export const KICK_SIGNAL: number = SIGRTMIN + 3;

/** The truncater of a race: makes the file shorter, regrows and rewrites it at each message, and reports the times. */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { send, tieToParent } from "../engines/child-side.ts";
import { actOnPath } from "../engines/host-action.ts";
import { errorText } from "../error-text.ts";
import {
  type FromRaceHost,
  LOAD_OFFSET,
  RACE_FILE_BYTES,
  type RaceWay,
  STORE_OFFSET,
  type ToRaceHost,
} from "./race.ts";
import { wayOfCutting } from "./race-ways.ts";

tieToParent();

const nowUs = (): number => Number(process.hrtime.bigint()) / 1000;

function wordAt(fd: number, offset: number): bigint {
  const bytes = Buffer.alloc(8);
  readSync(fd, bytes, 0, 8, offset);
  return bytes.readBigUInt64LE();
}

let place: Extract<ToRaceHost, { type: "start" }> | null = null;
/** Open since the start; -1: it is not. */
let old = -1;
/** Of a round under way: the file as it is truncated, and as it is read and written; null: it is closed. */
let open: { readonly truncated: number; readonly file: number } | null = null;

function started(): Extract<ToRaceHost, { type: "start" }> {
  if (place === null) throw new Error("the truncater was not started");
  return place;
}

/** Of the seals, and of FALLOC_FL_COLLAPSE_RANGE on a sealed copy, which no file system in memory has. */
const refusals: readonly (string | undefined)[] = ["EPERM", "EOPNOTSUPP"];

/** Returns whether the host was refused. */
function isRefused(work: () => void): boolean {
  try {
    work();
    return false;
  } catch (error) {
    if (refusals.includes((error as NodeJS.ErrnoException).code)) return true;
    throw error;
  }
}

function openFor(through: "file" | "mount"): { readonly truncated: number; readonly file: number } {
  const { path, mounted } = started();
  const truncated = openSync(through === "file" ? path : (mounted ?? path), "r+");
  return { truncated, file: through === "file" ? truncated : openSync(path, "r+") };
}

function cut(way: RaceWay): FromRaceHost {
  const cutting = wayOfCutting(way);
  if (cutting.by === "guest") throw new Error(`${way} is not the host's`);
  const openUs = nowUs();
  if (cutting.by === "path") {
    const isDenied = isRefused(() => actOnPath(cutting.action, started().path));
    return { type: "cut", isDenied, openUs, callUs: openUs, returnUs: nowUs(), storedBefore: null };
  }
  open = cutting.by === "descriptor" ? openFor(cutting.through) : null;
  const { truncated, file } = open ?? { truncated: old, file: old };
  const storedBefore = wordAt(file, STORE_OFFSET);
  const callUs = nowUs();
  const isDenied = isRefused(() => ftruncateSync(truncated, 0));
  return { type: "cut", isDenied, openUs, callUs, returnUs: nowUs(), storedBefore };
}

function regrow(content: bigint, through: "file" | "mount"): FromRaceHost {
  const { truncated, file } = open ?? openFor(through);
  ftruncateSync(truncated, RACE_FILE_BYTES);
  const isDirty = wordAt(file, STORE_OFFSET) !== 0n;
  const readUs = nowUs();
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(content);
  writeSync(file, bytes, 0, 8, LOAD_OFFSET);
  closeSync(truncated);
  if (file !== truncated) closeSync(file);
  open = null;
  return { type: "whole", isDirty, readUs };
}

function handle(message: ToRaceHost): void {
  switch (message.type) {
    case "start":
      place = message;
      if (message.opensNow) old = openSync(message.path, "r+");
      return;
    case "cut":
      void send(cut(message.way));
      return;
    case "regrow":
      void send(regrow(message.content, message.through));
  }
}

process.on("message", (message: ToRaceHost) => {
  try {
    handle(message);
  } catch (error) {
    // The last line is what the race's end says.
    console.error(errorText(error));
    process.exit(1);
  }
});

/** The truncater of a race: opens, truncates, regrows and rewrites the file at each message, and reports the times. */
import { closeSync, ftruncateSync, openSync, readSync, writeSync } from "node:fs";
import { send, tieToParent } from "../engines/child-side.ts";
import { type FromRaceHost, LOAD_OFFSET, RACE_FILE_BYTES, STORE_OFFSET, type ToRaceHost } from "./race.ts";

tieToParent();

const nowUs = (): number => Number(process.hrtime.bigint()) / 1000;

function wordAt(fd: number, offset: number): bigint {
  const bytes = Buffer.alloc(8);
  readSync(fd, bytes, 0, 8, offset);
  return bytes.readBigUInt64LE();
}

let path = "";
let via = "";
/** Of a round under way: the file as it is truncated, and as it is read and written. */
let truncated = -1;
let file = -1;

/** ftruncate to nothing. Returns whether that was refused, as a seal does. */
function truncateDenied(fd: number): boolean {
  try {
    ftruncateSync(fd, 0);
    return false;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EPERM") return true;
    throw error;
  }
}

function cut(): FromRaceHost {
  const openUs = nowUs();
  truncated = openSync(via, "r+");
  file = via === path ? truncated : openSync(path, "r+");
  const storedBefore = wordAt(file, STORE_OFFSET);
  const callUs = nowUs();
  const isDenied = truncateDenied(truncated);
  return { type: "cut", isDenied, openUs, callUs, returnUs: nowUs(), storedBefore };
}

function regrow(content: bigint): FromRaceHost {
  ftruncateSync(truncated, RACE_FILE_BYTES);
  const isDirty = wordAt(file, STORE_OFFSET) !== 0n;
  const readUs = nowUs();
  const bytes = Buffer.alloc(8);
  bytes.writeBigUInt64LE(content);
  writeSync(file, bytes, 0, 8, LOAD_OFFSET);
  closeSync(truncated);
  if (file !== truncated) closeSync(file);
  return { type: "whole", isDirty, readUs };
}

process.on("message", (message: ToRaceHost) => {
  switch (message.type) {
    case "start":
      ({ path, via } = message);
      return;
    case "cut":
      void send(cut());
      return;
    case "regrow":
      void send(regrow(message.content));
  }
});

/** The thread that reads inotify or plain fanotify events. Posts the watches, or the file handles, that they name. */
import { parentPort, workerData } from "node:worker_threads";
import {
  FAN_Q_OVERFLOW,
  files,
  IN_Q_OVERFLOW,
  parseFanotifyEvents,
  parseInotifyEvents,
} from "../../../sys/src/index.ts";

export type NotifyThreadInput = {
  readonly source: "inotify" | "fanotify";
  readonly group: number;
  /** Drop events of this process: fanotify names the process, inotify does not. */
  readonly ignoreOwn: boolean;
  /** Int32Array of one word: 1 asks the thread to end. */
  readonly stop: SharedArrayBuffer;
};

/** inotify: watch numbers; fanotify: file handles. `lost`: the queue was full, anything may have happened. */
export type NotifyThreadMessage = { readonly changed: readonly (number | string)[]; readonly lost: boolean };

const LOOK_MS = 50;
const BUFFER_BYTES = 64 * 1024;

function changes({ source, ignoreOwn }: NotifyThreadInput, bytes: Uint8Array): NotifyThreadMessage {
  if (source === "inotify") {
    const events = parseInotifyEvents(bytes);
    return {
      changed: [...new Set(events.map(({ watch }) => watch))],
      lost: events.some(({ mask }) => (mask & IN_Q_OVERFLOW) !== 0),
    };
  }
  const events = parseFanotifyEvents(bytes).filter(({ pid }) => !ignoreOwn || pid !== process.pid);
  return {
    changed: [...new Set(events.map(({ handle }) => handle).filter((handle) => handle !== null))],
    lost: events.some(({ mask }) => (mask & FAN_Q_OVERFLOW) !== 0),
  };
}

function main(input: NotifyThreadInput): void {
  const words = new Int32Array(input.stop);
  const buffer = new Uint8Array(BUFFER_BYTES);
  while (Atomics.load(words, 0) === 0) {
    if (files.pollReadable(input.group, LOOK_MS) !== 1) continue;
    const length = files.read(input.group, buffer);
    if (length <= 0) continue;
    const message = changes(input, buffer.subarray(0, length));
    if (message.lost || message.changed.length > 0) parentPort?.postMessage(message);
  }
}

if (parentPort !== null) main(workerData as NotifyThreadInput);

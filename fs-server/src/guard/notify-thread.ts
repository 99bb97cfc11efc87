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
  /** Int32Array, by `watchWord`. */
  readonly words: SharedArrayBuffer;
};

/** `stop`: 1 asks the thread to end. `asked`: the number of the latest question whether anything is left to read. */
export const watchWord = { stop: 0, asked: 1, count: 2 } as const;

export type NotifyThreadMessage =
  /** inotify: watch numbers; fanotify: file handles. `lost`: the queue was full, anything may have happened. */
  | { readonly kind: "changed"; readonly changed: readonly (number | string)[]; readonly lost: boolean }
  /** Nothing was left to read after the question of that number. */
  | { readonly kind: "empty"; readonly asked: number };

type Changed = Extract<NotifyThreadMessage, { kind: "changed" }>;

const LOOK_MS = 50;
const BUFFER_BYTES = 64 * 1024;

function changes({ source, ignoreOwn }: NotifyThreadInput, bytes: Uint8Array): Changed {
  if (source === "inotify") {
    const events = parseInotifyEvents(bytes);
    return {
      kind: "changed",
      changed: [...new Set(events.map(({ watch }) => watch))],
      lost: events.some(({ mask }) => (mask & IN_Q_OVERFLOW) !== 0),
    };
  }
  const events = parseFanotifyEvents(bytes).filter(({ pid }) => !ignoreOwn || pid !== process.pid);
  return {
    kind: "changed",
    changed: [...new Set(events.map(({ handle }) => handle).filter((handle) => handle !== null))],
    lost: events.some(({ mask }) => (mask & FAN_Q_OVERFLOW) !== 0),
  };
}

function main(input: NotifyThreadInput): void {
  const words = new Int32Array(input.words);
  const buffer = new Uint8Array(BUFFER_BYTES);
  const post = (message: NotifyThreadMessage): void => parentPort?.postMessage(message);
  let answered = 0;
  while (Atomics.load(words, watchWord.stop) === 0) {
    // Before the look: what happened before the question is in the queue by then.
    const asked = Atomics.load(words, watchWord.asked);
    if (files.pollReadable(input.group, LOOK_MS) !== 1) {
      if (asked !== answered) post({ kind: "empty", asked });
      answered = asked;
      continue;
    }
    const length = files.read(input.group, buffer);
    if (length <= 0) continue;
    const message = changes(input, buffer.subarray(0, length));
    if (message.lost || message.changed.length > 0) post(message);
  }
}

if (parentPort !== null) main(workerData as NotifyThreadInput);

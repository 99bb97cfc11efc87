/** Where a command writes: JSON lines to a file or to standard output, progress to a terminal. */
import { closeSync, openSync, writeSync } from "node:fs";
import type { JsonRecord } from "../report/jsonl.ts";
import { UsageError } from "./usage.ts";

const STDOUT = 1;

export type JsonOutput = {
  /** Standard output carries the JSON lines: nothing else may be written there. */
  readonly isStdout: boolean;
  write(record: JsonRecord | object): void;
  close(): void;
};

/** Opens `--json FILE|-`; without the option, records go nowhere. */
export function openJson(target: string | undefined): JsonOutput {
  if (target === undefined) return { isStdout: false, write() {}, close() {} };
  let fd = STDOUT;
  if (target !== "-") {
    try {
      fd = openSync(target, "w");
    } catch (error) {
      throw new UsageError(`--json ${target}: ${error instanceof Error ? error.message : String(error)}`);
    }
  }
  return {
    isStdout: fd === STDOUT,
    // One write a line: what is written stays whatever happens to the run.
    write: (record) => void writeAll(fd, Buffer.from(`${JSON.stringify(record)}\n`)),
    close() {
      if (fd !== STDOUT) closeSync(fd);
    },
  };
}

const PIPE_PAUSE_MS = 1;

/** A pipe may take less than a line at once, and nothing at all for a moment. A reader that has gone gets nothing. */
function writeAll(fd: number, bytes: Buffer): void {
  for (let done = 0; done < bytes.length; ) {
    try {
      done += writeSync(fd, bytes, done);
    } catch (error) {
      const { code } = error as NodeJS.ErrnoException;
      if (code === "EPIPE") return;
      if (code !== "EAGAIN") throw error;
      Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, PIPE_PAUSE_MS);
    }
  }
}

export type Progress = { show(text: string): void; clear(): void };

/** One line on stderr that replaces itself; nothing where stderr is no terminal. */
export function openProgress(stream: NodeJS.WriteStream = process.stderr): Progress {
  if (stream.isTTY !== true) return { show() {}, clear() {} };
  const erase = "\r\u001b[K";
  return {
    show: (text) => void stream.write(`${erase}${text.slice(0, (stream.columns ?? 80) - 1)}`),
    clear: () => void stream.write(erase),
  };
}

/**
 * A process that maps the file and does what a guest task would: entry point, started by the engine mmap-io.
 * Meant to be killed by SIGBUS: no handler, no probing, plain accesses through the mapping.
 */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { createRequire } from "node:module";
import { setTimeout as sleep } from "node:timers/promises";
import {
  type AccessStep,
  accessBytes,
  fromValue,
  type GuestStep,
  guestVerbs,
  isAccess,
  labelledAccesses,
  leftValue,
  touchOf,
  toValue,
  untilOf,
  type WindowMapping,
  writtenValue,
} from "../../../../language/src/index.ts";
import { disableCoreDumps } from "../../../../sys/src/index.ts";
import { Signals, send, tieToParent } from "../child-side.ts";
import type { MapperInbound, MapperOutbound } from "./mapper.ts";

/** The part of mmap-io that is used here. Its own types describe a default export that the package does not have. */
type MmapIo = {
  map(lengthBytes: number, protection: number, flags: number, fd: number, offset: number): Buffer;
  readonly PROT_READ: number;
  readonly PROT_WRITE: number;
  readonly MAP_SHARED: number;
};

// Optional, hence loaded at run time: the build must work without it.
const require: NodeJS.Require = createRequire(import.meta.url);
const mmap = require("mmap-io") as MmapIo;

tieToParent();
disableCoreDumps();

const COUNT_PAUSE_MS = 1;
const COUNT_REPORT_EVERY = 8;

type Mapped = { readonly at: bigint; readonly bytes: Buffer };
const mapped: Mapped[] = [];
const signals = new Signals();
const report = (message: MapperOutbound): Promise<void> => send(message);

function mapFile(path: string, mappings: readonly WindowMapping[]): void {
  const fd = openSync(path, "r+");
  for (const { fileOffset, at, length } of mappings) {
    const bytes = mmap.map(
      Number(length),
      mmap.PROT_READ | mmap.PROT_WRITE,
      mmap.MAP_SHARED,
      fd,
      Number(fileOffset),
    );
    mapped.push({ at, bytes });
  }
  closeSync(fd);
}

/** The bytes of the mapping that a step touches; not read yet. */
function target(step: AccessStep): Buffer {
  const size = accessBytes(step);
  for (const { at, bytes } of mapped) {
    const start = Number(step.offset - at);
    if (start >= 0 && start + size <= bytes.length) return bytes.subarray(start, start + size);
  }
  throw new RangeError(`offset ${step.offset} is not mapped`);
}

/** A file of our own for the kernel to copy from and to: what a system call on the mapping needs at its other end. */
const scratch: number = openSync("scratch", "w+");

/**
 * A system call on the mapping: write(2) makes the kernel copy from it, read(2) to it. Returns null for -EFAULT, which is
 * the result of the kernel's exception table for a page that is gone.
 */
function systemCall(step: AccessStep): Uint8Array | null {
  const size = accessBytes(step);
  const isRead = touchOf(step).kind === "load";
  const bytes = isRead ? new Uint8Array(size) : fromValue(writtenValue(step), size);
  try {
    if (isRead) {
      writeSync(scratch, target(step), 0, size, 0);
      readSync(scratch, bytes, 0, size, 0);
    } else {
      writeSync(scratch, bytes, 0, size, 0);
      readSync(scratch, target(step), 0, size, 0);
    }
    return bytes;
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === "EFAULT") return null;
    throw error;
  }
}

/** Does the access and returns what it saw, or what it wrote; null for a system call that failed with EFAULT. */
function touch(step: AccessStep): Uint8Array | null {
  const { beyondJavaScript } = guestVerbs[step.verb];
  if (beyondJavaScript !== null) throw new Error(`${step.verb}: this engine does not support it`);
  const touched = touchOf(step);
  if (touched.instruction === null || touched.by === "kernel") return systemCall(step);
  const bytes = target(step);
  switch (touched.kind) {
    case "load":
    case "fetch":
      return Uint8Array.from(bytes);
    case "store": {
      const written = fromValue(writtenValue(step), bytes.length);
      bytes.set(written);
      return written;
    }
    case "atomic": {
      // JavaScript has no LOCK prefix for foreign memory; read-modify-write touches the page the same way.
      const old = Uint8Array.from(bytes);
      bytes.set(fromValue(leftValue(step, toValue(old)), old.length));
      return old;
    }
  }
}

async function countForEver(): Promise<never> {
  for (let count = 1; ; count += 1) {
    if (count % COUNT_REPORT_EVERY === 0) await report({ type: "counted", count });
    await sleep(COUNT_PAUSE_MS);
  }
}

/** Again and again until the signal, which comes in only while this process waits. The last access is the caller's. */
async function repeat(step: AccessStep): Promise<void> {
  const until = untilOf(step);
  while (until !== null && !signals.isRaised(until)) {
    touch(step);
    await sleep(COUNT_PAUSE_MS);
  }
}

async function run(steps: readonly GuestStep[]): Promise<void> {
  const labels = labelledAccesses(steps);
  for (const [index, step] of steps.entries()) {
    if (isAccess(step)) {
      const label = labels.get(index) ?? step.verb;
      await report({ type: "touching", label });
      await repeat(step);
      const bytes = touch(step);
      await send(bytes === null ? { type: "efault", label } : { type: "saw", label, bytes });
      continue;
    }
    switch (step.verb) {
      case "await":
        await signals.wait(step.name);
        break;
      case "signal":
        await report({ type: "signal", name: step.name });
        break;
      case "kill":
        throw new Error("kill: this engine does not support it");
      case "count":
        await countForEver();
    }
  }
  await report({ type: "finished" });
}

process.on("message", (message: MapperInbound) => {
  switch (message.type) {
    case "map":
      mapFile(message.path, message.mappings);
      void report({ type: "mapped" });
      return;
    case "start":
      void run(message.steps);
      return;
    case "signal":
      signals.raise(message.name);
      return;
  }
});

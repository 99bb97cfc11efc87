/** The process whose calls are timed: one operation a message, on `other` and on `mapped` of the message's folder. */
import { closeSync, openSync, readSync, writeSync } from "node:fs";
import { join } from "node:path";
import { truncate } from "../../../sys/src/index.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import { FILE_BYTES, type FromPriceHost, type ToPriceHost } from "./price-messages.ts";

const page = Buffer.alloc(4096, 1);
/** By file: opened when it is first needed, which is before anything is protected. */
const old = new Map<string, number>();

function timed(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1000;
}

/** Opening and closing it is not timed. */
function timedOn(path: string, flags: string, work: (fd: number) => void): number {
  const fd = openSync(path, flags);
  try {
    return timed(() => work(fd));
  } finally {
    closeSync(fd);
  }
}

const read = (fd: number): void => void readSync(fd, page, 0, page.length, 0);
const write = (fd: number): void => void writeSync(fd, page, 0, page.length, 0);

function cut(path: string): FromPriceHost {
  let isRefused = false;
  const us = timed(() => {
    try {
      truncate(path, 0n);
    } catch {
      isRefused = true;
    }
  });
  if (!isRefused) truncate(path, BigInt(FILE_BYTES));
  return { us, isRefused };
}

function perform({ operation, folder }: ToPriceHost): FromPriceHost {
  const [mapped, other] = [join(folder, "mapped"), join(folder, "other")];
  const done = (us: number): FromPriceHost => ({ us, isRefused: false });
  const opened = (path: string): FromPriceHost => done(timed(() => closeSync(openSync(path, "r"))));
  if (!old.has(mapped)) old.set(mapped, openSync(mapped, "r"));
  switch (operation) {
    case "open another file":
      return opened(other);
    case "read 4 KiB of it":
      return done(timedOn(other, "r", read));
    case "write 4 KiB of it":
      return done(timedOn(other, "r+", write));
    case "truncate it":
      return cut(other);
    case "open the mapped file":
      return opened(mapped);
    case "read 4 KiB of it, by a new descriptor":
      return done(timedOn(mapped, "r", read));
    case "write 4 KiB of it, by a new descriptor":
      return done(timedOn(mapped, "r+", write));
    case "read 4 KiB of it, by a descriptor from before":
      return done(timed(() => read(old.get(mapped) ?? -1)));
    case "grow it, and back": {
      const us = timed(() => truncate(mapped, BigInt(FILE_BYTES + 4096)));
      truncate(mapped, BigInt(FILE_BYTES));
      return done(us);
    }
    case "truncate it, refused where it is protected":
      return cut(mapped);
  }
}

tieToParent();
process.on("message", (message: ToPriceHost) => void send(perform(message)));

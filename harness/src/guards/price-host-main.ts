/** The process whose calls are timed: does one operation per message, and reports how long the system calls took. */
import { closeSync, openSync } from "node:fs";
import { join } from "node:path";
import { truncate } from "../../../sys/src/index.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import type { ToPriceHost } from "./price-messages.ts";

function timed(work: () => void): number {
  const start = process.hrtime.bigint();
  work();
  return Number(process.hrtime.bigint() - start) / 1000;
}

function perform({ operation, folder, sizeBytes }: ToPriceHost): number {
  const [file, other] = [join(folder, "file"), join(folder, "other")];
  const openToRead = (path: string) => () => closeSync(openSync(path, "r"));
  const cut = (path: string): number => {
    const us = timed(() => truncate(path, 0n));
    truncate(path, BigInt(sizeBytes));
    return us;
  };
  switch (operation) {
    case "open another file":
      return timed(openToRead(other));
    case "truncate another file":
      return cut(other);
    case "open the file to read":
      return timed(openToRead(file));
    case "truncate the file":
      return cut(file);
  }
}

tieToParent();
process.on("message", (message: ToPriceHost) => void send({ us: perform(message) }));

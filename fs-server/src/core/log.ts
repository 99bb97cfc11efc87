/** One greppable line per message: `rx 12: GETATTR n5 {getattr_flags=0 ...}` and `tx 12: 0, 104 bytes`. */

import { writeSync } from "node:fs";
import { errnoName } from "../../../sys/src/index.ts";
import { type Decoded, decode } from "../abi/layout.ts";
import type { Request } from "./request.ts";

function fieldsText(fields: Decoded): string {
  return Object.entries(fields)
    .filter(([name]) => name !== "padding" && name !== "dummy")
    .map(([name, value]) =>
      value !== null && typeof value === "object" ? `${name}={${fieldsText(value)}}` : `${name}=${value}`,
    )
    .join(" ");
}

export function requestLine(request: Request): string {
  const { header, row, args, names, payloadBytes } = request;
  const fields = row.args === null ? "" : ` {${fieldsText(decode(row.args, args.view))}}`;
  const texts = names.map((name) => ` ${JSON.stringify(Buffer.from(name.subarray(0, -1)).toString())}`);
  const payload = payloadBytes === 0 ? "" : ` +${payloadBytes} bytes`;
  return `rx ${header.unique}: ${row.name} n${header.node}${fields}${texts.join("")}${payload}`;
}

export function replyLine(unique: bigint, errno: number, bodyBytes: number): string {
  return `tx ${unique}: ${errno === 0 ? "0" : errnoName(errno)}, ${bodyBytes} bytes`;
}

/** Writes a line of a serving thread straight to the descriptor: a worker's stderr needs an event loop, which never turns there. */
export function threadLog(line: string): void {
  try {
    writeSync(2, `${line}\n`);
  } catch {
    // The reader of stderr has ended, or is slow: the request is served all the same.
  }
}

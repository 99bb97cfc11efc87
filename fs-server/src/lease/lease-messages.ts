/**
 * What a lease server and its clients send each other: over a Unix socket, JSON, one object a line.
 *
 *   client: {"hold":1,"device":"..","ino":".."}          server: {"granted":1} or {"refused":1,"reason":".."}
 *   server: {"recall":7,"hold":1,"from":"0","by":".."}   client: {"ack":7}
 *   server: {"settle":1,"size":"0"}                      client: {"release":1}
 *   server: {"closed":".."}
 *
 * A release acknowledges the recalls of its lease, too. A lease that is given back before it was granted gets no answer.
 * The server closes the connection of a client that does not acknowledge in time, or that sends what is not above; that
 * is how the client learns of it. `closed` is the reason where there is one to send, and the last message.
 */

export type ToServer =
  | { readonly hold: number; readonly device: string; readonly ino: string }
  | { readonly ack: number }
  | { readonly release: number };

export type ToClient =
  | { readonly granted: number }
  | { readonly refused: number; readonly reason: string }
  | { readonly closed: string }
  | { readonly recall: number; readonly hold: number; readonly from: string; readonly by: string }
  | { readonly settle: number; readonly size: string };

export function line(message: ToServer | ToClient): string {
  return `${JSON.stringify(message)}\n`;
}

/** A message of a client that is not one of the protocol. The text is for the client. */
export class LeaseProtocolError extends Error {
  override readonly name = "LeaseProtocolError";
}

const U64 = /^\d{1,20}$/;
const MAX_U64 = 2n ** 64n - 1n;

function isNumber(value: unknown): value is number {
  return Number.isSafeInteger(value) && (value as number) > 0;
}

function isU64(value: unknown): value is string {
  return typeof value === "string" && U64.test(value) && BigInt(value) <= MAX_U64;
}

/** A client's message, each field checked. Throws a LeaseProtocolError. */
export function checkedToServer(message: unknown): ToServer {
  if (typeof message === "object" && message !== null) {
    const { hold, device, ino, ack, release } = message as Readonly<Record<string, unknown>>;
    if (isNumber(hold) && isU64(device) && isU64(ino)) return { hold, device, ino };
    if (isNumber(ack)) return { ack };
    if (isNumber(release)) return { release };
  }
  throw new LeaseProtocolError(`not a message of this protocol: ${JSON.stringify(message).slice(0, 100)}`);
}

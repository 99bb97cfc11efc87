/**
 * The two families of errors beside the file system's own (fs/errors.ts).
 * Never mixed: a file system error is an errno in a reply; a protocol error is the client's nonsense, answered if
 * that is possible and always counted; a transport error ends the session.
 */

/** The client sent what the protocol does not allow. `errno` answers it where the request's id could be read. */
export class ProtocolError extends Error {
  override readonly name = "ProtocolError";
  readonly code: "EINVAL" | "EIO" | "ENOSYS" | "EPROTO";

  constructor(reason: string, code: "EINVAL" | "EIO" | "ENOSYS" | "EPROTO" = "EINVAL") {
    super(reason);
    this.code = code;
  }
}

/** The way to the client is gone. */
export class TransportError extends Error {
  override readonly name = "TransportError";
}

/**
 * Thrown by a file system (a fault decorator) that wants to answer later. The session keeps the request and asks
 * again after `delayMs`, having called `redeem`, so that the next attempt is let through.
 */
export class Postponed extends Error {
  override readonly name = "Postponed";
  readonly delayMs: number;
  readonly redeem: () => void;

  constructor(delayMs: number, redeem: () => void) {
    super(`postponed by ${delayMs} ms`);
    this.delayMs = delayMs;
    this.redeem = redeem;
  }
}

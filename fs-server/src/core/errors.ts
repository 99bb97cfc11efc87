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

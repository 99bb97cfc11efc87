/**
 * Protocol and transport errors. File system errors, the third family, are in fs/errors.ts.
 * A file system error is an errno in a reply; a protocol error is an invalid request, always counted and answered if
 * possible; a transport error ends the session.
 */

/** An invalid request. `code` answers it if the request's id could be read. */
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

/**
 * The gate that a file server asks before it truncates a file for one of its clients. Non-blocking: while the server waits
 * for one client's acknowledgement it serves the others (`Postponed`).
 */

/** A truncation that the gate was asked about. */
export type GateTicket = number;

/** No client has a lease of the file: the truncation may proceed at once. */
export const FREE: GateTicket = 0;

/** A file by device and inode number: what server and holder both see of it. */
export type FileIdentity = { readonly device: bigint; readonly ino: bigint };

export interface TruncationGate {
  /** Asks whether the file may lose what lies from `fromBytes` on. */
  ask(file: FileIdentity, fromBytes: bigint): GateTicket;
  /** Whether the truncation may proceed; true at the latest when the guard's bound has passed. */
  isOpen(ticket: GateTicket): boolean;
  /** Whether a client may have a lease of the file; false: growth need not be reported. */
  isHeld(file: FileIdentity): boolean;
  /** The file has grown to this size: pages behind the old end may exist again. */
  grown(file: FileIdentity, sizeBytes: bigint): void;
  /** The truncation is done, or has failed; this is the file's size now. Ends the ticket. */
  done(ticket: GateTicket, sizeBytes: bigint): void;
}

/**
 * Where a file server asks before it makes a file shorter for one of its clients, and what it is told. Non-blocking: a
 * server that waits for one client's acknowledgement goes on serving the others (`Postponed`).
 */

/** A question that was asked. */
export type GateTicket = number;

/** Nobody has the file mapped: the truncation may go on at once. */
export const FREE: GateTicket = 0;

/** A file by device and inode number: what server and holder both see of it. */
export type FileIdentity = { readonly device: bigint; readonly ino: bigint };

export interface TruncationGate {
  /** Asks whether the file may lose what lies from `fromBytes` on. */
  ask(file: FileIdentity, fromBytes: bigint): GateTicket;
  /** May the truncation go on? Once it may, it always does within the guard's bound. */
  isOpen(ticket: GateTicket): boolean;
  /** May somebody have a lease of the file? Where not, nobody is to be told of it. */
  isHeld(file: FileIdentity): boolean;
  /** The file has grown, and has this size now: what was lost behind its end may be there again. */
  grown(file: FileIdentity, sizeBytes: bigint): void;
  /** The truncation is done, or has failed; this is the file's size now. Ends the ticket. */
  done(ticket: GateTicket, sizeBytes: bigint): void;
}

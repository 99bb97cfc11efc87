/**
 * The file system family of errors: what becomes an errno in a reply.
 *
 * One instance per errno, without a stack: such an error is an answer to the client (most look-ups before a create
 * end in ENOENT), not a defect, and making a fresh stack for each costs more than the system call.
 * Anything else that is thrown out of a `FileSystem` is a defect of the server.
 */
import { errnoName, errnoNumber } from "../../../sys/src/index.ts";

export class FileSystemError extends Error {
  override readonly name = "FileSystemError";
  /** Positive errno number. */
  readonly errno: number;
  /** Its name, as Node's own errors have it. */
  readonly code: string;

  constructor(errno: number) {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 0;
    super(errnoName(errno));
    Error.stackTraceLimit = limit;
    this.errno = errno;
    this.code = errnoName(errno);
  }
}

const errorByErrno = new Map<number, FileSystemError>();

/** The error that answers `errno`: a positive number or a name. */
export function failure(errno: number | string): FileSystemError {
  const number = typeof errno === "string" ? errnoNumber(errno) : errno;
  const known = errorByErrno.get(number);
  if (known !== undefined) return known;
  const fresh = new FileSystemError(number);
  errorByErrno.set(number, fresh);
  return fresh;
}

/** The result of a system call of sys/src/files.ts, or its error thrown. */
export function succeeded(result: number): number {
  if (result < 0) throw failure(-result);
  return result;
}

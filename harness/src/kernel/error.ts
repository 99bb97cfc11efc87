/** A kernel cannot be fetched, booted or run in. The message says what, where, and what to do. */
export class KernelError extends Error {
  override readonly name = "KernelError";
}

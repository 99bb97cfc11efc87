/** What keeps a kernel from being had, booted or run in. The message says what, where, and what to do. */
export class KernelError extends Error {
  override readonly name = "KernelError";
}

/** Reacting to an AbortSignal that may have been aborted before anybody listened. */

/** Calls `action` when `signal` is aborted, at once if it already is. Returns how to stop listening. */
export function onAbort(signal: AbortSignal, action: () => void): () => void {
  if (signal.aborted) {
    // An AbortSignal tells its listeners once: one that comes too late would wait for ever.
    action();
    return () => {};
  }
  signal.addEventListener("abort", action, { once: true });
  return () => signal.removeEventListener("abort", action);
}

/** Reacts to an AbortSignal that may have been aborted before a listener was added. */

/** Calls `action` when `signal` is aborted, at once if it already is. Returns how to stop listening. */
export function onAbort(signal: AbortSignal, action: () => void): () => void {
  if (signal.aborted) {
    // An AbortSignal fires once: a listener that is added later would wait for ever.
    action();
    return () => {};
  }
  signal.addEventListener("abort", action, { once: true });
  return () => signal.removeEventListener("abort", action);
}

/** A thrown value as text: it may be anything. For output, and for the reason of a result. */

export function errorText(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** Its first line: npm and others add pages. */
export function errorLine(error: unknown): string {
  const text = errorText(error);
  return text.split("\n")[0] ?? text;
}

/** With where it came from: for defects of our own. */
export function errorStack(error: unknown): string {
  return error instanceof Error ? (error.stack ?? error.message) : String(error);
}

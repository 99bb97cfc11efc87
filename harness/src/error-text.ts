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

const FRAME = /^\s+at /;
/** What Node prints behind a stack: the error's own properties, and its version. */
const BEHIND_STACK = /^(?:\s+\S.*|\}|Node\.js v\d.*)$/;

/** The last line that a program has printed; where that is the end of an error's stack, the error's. Empty: it has printed nothing. */
export function lastWords(printed: string): string {
  const lines = printed.split("\n").filter((line) => line.trim() !== "");
  const frame = lines.findLastIndex((line) => FRAME.test(line));
  const isStack = frame >= 0 && lines.slice(frame + 1).every((line) => BEHIND_STACK.test(line));
  // What belongs to the error is indented: frames, its cause and the cause's frames.
  const words = isStack ? lines.slice(0, frame).findLast((line) => /^\S/.test(line)) : lines.at(-1);
  return words?.trim() ?? "";
}

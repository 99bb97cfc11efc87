/**
 * The rules for the server of a scenario's mount: `read at 0x300000 times 1 delay 200`. A line is an operation, what
 * narrows it (`at OFFSET`, `after CALLS`, `times CALLS`), and what is done to it.
 */
import { constants } from "node:os";
import { type FaultAction, type FaultRule, faultOperations } from "./fault-rules.ts";
import { FAULT_DELAY_MS_MAX, FILE_BYTES_MAX } from "./limits.ts";
import type { Problems } from "./problem.ts";
import { Words } from "./words.ts";

const TEXT_LENGTH_MAX = 120;
const CALLS_MAX = 1_000_000n;

function isErrno(name: string): boolean {
  return name in constants.errno;
}

function action(words: Words): FaultAction | null {
  const kind = words.word("what is done (delay, fail, short, hang or truncate)");
  switch (kind) {
    case "delay":
      return { kind, ms: Number(words.number("milliseconds", BigInt(FAULT_DELAY_MS_MAX), 1n)) };
    case "fail": {
      const errno = words.word("errno");
      if (!isErrno(errno)) words.fail(`${JSON.stringify(errno)} is not the name of an errno, e.g. EIO`);
      return { kind, errno };
    }
    case "short":
      return { kind, bytes: Number(words.number("bytes", FILE_BYTES_MAX)) };
    case "hang":
      return { kind };
    case "truncate":
      return { kind, sizeBytes: Number(words.number("size", FILE_BYTES_MAX)) };
    default:
      words.fail(`${JSON.stringify(kind)} is not one of delay, fail, short, hang, truncate`);
      return null;
  }
}

/** One rule, or null with the problem added. */
export function parseFault(text: string, at: string, problems: Problems): FaultRule | null {
  if (text.length > TEXT_LENGTH_MAX) {
    problems.add(at, `a rule of ${text.length} characters is longer than the limit ${TEXT_LENGTH_MAX}`);
    return null;
  }
  const list = text.trim().split(/\s+/);
  const operation = faultOperations.find((name) => name === list[0]);
  if (operation === undefined) {
    problems.add(at, `unknown operation ${JSON.stringify(list[0])}; there are ${faultOperations.join(", ")}`);
    return null;
  }
  const words = new Words(list, at, problems);
  const calls = (name: string): number => Number(words.number(name, CALLS_MAX));
  const where = words.takes("at") ? Number(words.number("offset", FILE_BYTES_MAX - 1n)) : null;
  if (where !== null && operation !== "read" && operation !== "write") {
    words.fail(`at ${where} goes with read and write only`);
  }
  const after = words.takes("after") ? calls("after") : 0;
  const times = words.takes("times") ? calls("times") : null;
  const does = action(words);
  words.end();
  if (does?.kind === "hang" && operation !== "read") words.fail("hang goes with read only");
  return words.failed || does === null ? null : { operation, at: where, after, times, action: does };
}

function actionText(action: FaultAction): string {
  switch (action.kind) {
    case "delay":
      return `delay ${action.ms}`;
    case "fail":
      return `fail ${action.errno}`;
    case "short":
      return `short ${action.bytes}`;
    case "hang":
      return action.kind;
    case "truncate":
      return `truncate ${action.sizeBytes}`;
  }
}

/** The reverse of `parseFault`. */
export function faultText({ operation, at, after, times, action }: FaultRule): string {
  const words: string[] = [operation];
  if (at !== null) words.push(`at 0x${at.toString(16)}`);
  if (after > 0) words.push(`after ${after}`);
  if (times !== null) words.push(`times ${times}`);
  return [...words, actionText(action)].join(" ");
}

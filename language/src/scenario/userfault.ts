/**
 * The handler of a userfaultfd behind the guest's memory, as a VMM has it that restores a snapshot page by page
 * (Documentation/admin-guide/mm/userfaultfd.rst). Its rules: `missing at 0x300000 delay 200`.
 */
import { FAULT_DELAY_MS_MAX, FILE_BYTES_MAX, PAGE_BYTES } from "./limits.ts";
import type { Problems } from "./problem.ts";
import { Words } from "./words.ts";

export const userFaultModes = ["all", "user"] as const;
/**
 * Which faults are handed over: all, or those of user mode alone (UFFD_USER_MODE_ONLY, what an unprivileged process may
 * have): a look-up by the kernel, as KVM's, fails at once.
 */
export type UserFaults = (typeof userFaultModes)[number];

export type UserfaultAction =
  | { readonly kind: "delay"; readonly ms: number }
  /** Read, and never answered: the handler lives, and is silent. */
  | { readonly kind: "hang" }
  /** The handler has died, and the VMM holds the descriptor: from now on nothing is answered. */
  | { readonly kind: "die" }
  /** The descriptor is closed: the memory is ordinary from now on, and what is missing is zeros. */
  | { readonly kind: "close" }
  /** UFFDIO_POISON: every access is one to poisoned memory. */
  | { readonly kind: "poison" };

export type UserfaultRule = { readonly at: bigint; readonly action: UserfaultAction };

export type UserfaultHandler = {
  readonly faults: UserFaults;
  /** Bytes from the file's begin that are copied in before the guest begins. */
  readonly prefault: bigint;
  /** By page; the first one that covers it decides. Without one the page is copied from the file. */
  readonly rules: readonly UserfaultRule[];
};

const actions = ["delay", "hang", "die", "close", "poison"] as const;
const TEXT_LENGTH_MAX = 120;

/** One rule, or null with the problem added. */
export function parseUserfaultRule(text: string, at: string, problems: Problems): UserfaultRule | null {
  if (text.length > TEXT_LENGTH_MAX) {
    problems.add(at, `a rule of ${text.length} characters is longer than the limit ${TEXT_LENGTH_MAX}`);
    return null;
  }
  const list = text.trim().split(/\s+/);
  const words = new Words(list, at, problems);
  if (list[0] !== "missing" || !words.takes("at")) {
    words.fail('is not of the form "missing at OFFSET ACTION"');
    return null;
  }
  const offset = words.number("offset", FILE_BYTES_MAX - 1n);
  const name = words.word(`what is done (${actions.join(", ")})`);
  const kind = actions.find((one) => one === name);
  if (kind === undefined) words.fail(`${JSON.stringify(name)} is not one of ${actions.join(", ")}`);
  const ms = kind === "delay" ? Number(words.number("milliseconds", BigInt(FAULT_DELAY_MS_MAX), 1n)) : 0;
  words.end();
  if (words.failed || kind === undefined) return null;
  return { at: offset, action: kind === "delay" ? { kind, ms } : { kind } };
}

/** The reverse of `parseUserfaultRule`. */
export function userfaultRuleText({ at, action }: UserfaultRule): string {
  const words = ["missing", "at", `0x${at.toString(16)}`, action.kind];
  return [...words, ...(action.kind === "delay" ? [String(action.ms)] : [])].join(" ");
}

/** What the handler does where the page of that offset is missing; null: it copies the page from the file. */
export function userfaultActionAt({ rules }: UserfaultHandler, fileOffset: bigint): UserfaultAction | null {
  return rules.find(({ at }) => at / PAGE_BYTES === fileOffset / PAGE_BYTES)?.action ?? null;
}

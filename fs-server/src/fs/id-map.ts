/**
 * User or group ids of a client and those of the host, translated by rules in virtiofsd's words (its --translate-uid):
 *
 *   map:CLIENT:HOST:COUNT           both ways, one to one
 *   guest:CLIENT:HOST:COUNT         of requests
 *   host:HOST:CLIENT:COUNT          of answers
 *   squash-guest:CLIENT:HOST:COUNT  of requests, all to one
 *   squash-host:HOST:CLIENT:COUNT   of answers, all to one
 *   forbid-guest:CLIENT:COUNT       requests with these ids, or that give a file to them, are EPERM
 *
 * The first rule that has an id decides; an id that no rule has stays as it is.
 */
import { failure } from "./errors.ts";

type Direction = "guest" | "host";
type Range = {
  readonly direction: Direction;
  readonly from: number;
  readonly count: number;
  /** null: refused. */
  readonly to: number | null;
  readonly isSquashed: boolean;
};

const IDS = 2 ** 32;
/** The id that stands for none (chown(2)'s -1). */
const NO_ID = IDS - 1;

function translated(ranges: readonly Range[], id: number): number {
  const range = ranges.find(({ from, count }) => id >= from && id < from + count);
  if (range === undefined) return id;
  if (range.to === null) throw failure("EPERM");
  return range.isSquashed ? range.to : range.to + (id - range.from);
}

export class IdMap {
  readonly #guest: readonly Range[];
  readonly #host: readonly Range[];

  private constructor(ranges: readonly Range[]) {
    this.#guest = ranges.filter(({ direction }) => direction === "guest");
    this.#host = ranges.filter(({ direction }) => direction === "host");
  }

  /** Throws an Error that names the rule which is none. */
  static of(rules: readonly string[]): IdMap {
    return new IdMap(rules.flatMap(parsedRule));
  }

  /** The host's id for one of a request. Throws EPERM where it is forbidden. */
  toHost(id: number): number {
    return translated(this.#guest, id);
  }

  /** The client's id for one of the host. */
  toClient(id: number): number {
    return translated(this.#host, id);
  }
}

function parsedRule(rule: string): readonly Range[] {
  const [kind = "", ...words] = rule.split(":");
  const numbers = words.map(Number);
  const wrong = (why: string): Error => new Error(`${JSON.stringify(rule)} is no rule: ${why}`);
  if (words.some((word) => !/^\d{1,10}$/.test(word))) throw wrong("ids and counts are whole numbers");
  const [from = 0, to = 0] = numbers;
  const count = numbers.at(-1) ?? 0;
  const isForbidden = kind === "forbid-guest";
  if (numbers.length !== (isForbidden ? 2 : 3)) {
    throw wrong(isForbidden ? "forbid-guest:CLIENT:COUNT" : "KIND:FROM:TO:COUNT");
  }
  const isSquashed = kind.startsWith("squash-");
  const last = isForbidden || isSquashed ? from + count : Math.max(from, to) + count;
  if (count === 0 || last > NO_ID || to >= NO_ID)
    throw wrong("its ids do not fit into 32 bits, or it has none");
  const range = { count, isSquashed };
  switch (kind) {
    case "map":
      return [
        { ...range, direction: "guest", from, to },
        { ...range, direction: "host", from: to, to: from },
      ];
    case "guest":
    case "squash-guest":
      return [{ ...range, direction: "guest", from, to }];
    case "host":
    case "squash-host":
      return [{ ...range, direction: "host", from, to }];
    case "forbid-guest":
      return [{ ...range, direction: "guest", from, to: null }];
    default:
      throw wrong("there are map, guest, host, squash-guest, squash-host, forbid-guest");
  }
}

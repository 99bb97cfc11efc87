/** The options of a server process, parsed and checked in one place. */
import { parseArgs } from "node:util";
import { InputError, readInput } from "../../../language/src/input-file.ts";
import {
  type CacheMode,
  cacheModes,
  type FaultRule,
  faultOperations,
  fileHandlesUses,
  servedGuards,
  type Transport,
  transports,
} from "../../../language/src/words.ts";
import { errnoNumber, MAX_SOCKET_PATH } from "../../../sys/src/index.ts";
import { IdMap } from "../fs/id-map.ts";
import { type MountGuardName, mountGuardNames } from "../mount-guard/mount-guard.ts";
import type { DevfuseOptions } from "../transport/devfuse/worker.ts";
import type { SourceOptions } from "../transport/source-options.ts";

export type ServeOptions = DevfuseOptions &
  ProcessOptions & {
    readonly mountPoint: string;
    readonly transport: Transport;
    /** Where clients with mappings of their own hold leases (guard `fuse-lease`); null: none are granted. */
    readonly leaseSocket: string | null;
    /** Drops files that change behind the server's back from the mount's page cache; null: none. */
    readonly mountGuard: MountGuardName | null;
  };

export const USAGE: string = `usage: serve-main --source DIR --mountpoint DIR
  [--transport ${transports.join("|")}]   default devfuse
  [--read-only] [--debug] [--detached] [--parent-pid PID]
  [--announce-submounts] [--inode-file-handles ${fileHandlesUses.join("|")}]   default prefer
  devfuse only: [--cache ${cacheModes.join("|")}] [--allow-direct-io]
                [--posix-lock | --no-posix-lock] [--flock | --no-flock]   default no
                [--translate-uid RULE]... [--translate-gid RULE]...   map:CLIENT:HOST:COUNT and others
                [--writeback] [--passthrough] [--posix-acl | --no-posix-acl] [--keep-cache]
                [--entry-timeout MS] [--attr-timeout MS] [--faults FILE] [--io-uring]
                [--guard fuse-lease --lease-socket PATH | --guard notify | --guard pre-content]`;

/** A wrong option. The message names it. */
export class UsageError extends Error {
  override readonly name = "UsageError";
}

const MAX_TIMEOUT_MS = 86_400_000;

export function wholeNumber(name: string, text: string, max: number): number {
  const value = Number(text);
  if (text === "" || !Number.isInteger(value) || value < 0 || value > max) {
    throw new UsageError(`--${name} ${text} is not a whole number from 0 to ${max}`);
  }
  return value;
}

/** Parses a server's arguments. Throws a UsageError. */
export function serveOptions(args: readonly string[]): ServeOptions {
  const values = parsed(args);
  if (values.source === undefined) throw new UsageError("--source is missing");
  if (values.mountpoint === undefined) throw new UsageError("--mountpoint is missing");
  const transport = transports.find((name) => name === values.transport);
  if (transport === undefined) {
    throw new UsageError(`unknown transport ${values.transport}; there are: ${transports.join(", ")}`);
  }
  const cache = caches[chosen("cache", values.cache, cacheModes)];
  refuseCombinations(values, { transport, cache });
  const [posixLock, flock] = [chosenOf(values, "posix-lock"), chosenOf(values, "flock")];
  const { guard } = values;
  const mountGuard = mountGuardNames.find((name) => name === guard) ?? null;
  const leaseSocket = checkedLeaseSocket(guard, values["lease-socket"], transport);
  return {
    source: values.source,
    mountPoint: values.mountpoint,
    transport,
    ...sourceOptions(values, cache),
    keepCache: values["keep-cache"] || cache.keepCache,
    kernelPassthrough: values.passthrough,
    posixLock: posixLock ?? false,
    flock: flock ?? false,
    ioUring: values["io-uring"],
    faults: values.faults === undefined ? [] : faultRules(values.faults),
    leaseSocket,
    mountGuard,
    ...processOptions(values),
  };
}

/** Throws a UsageError for options that do not go together. */
function refuseCombinations(
  values: ReturnType<typeof parsed>,
  { transport, cache }: { readonly transport: Transport; readonly cache: Cache },
): void {
  if (cache.directIo && (values.writeback || values.passthrough)) {
    throw new UsageError(
      `--cache ${values.cache} keeps no pages: --writeback and --passthrough do not go with it`,
    );
  }
  const only = [
    "writeback",
    "passthrough",
    "posix-acl",
    "no-posix-acl",
    "keep-cache",
    "allow-direct-io",
    "io-uring",
    "posix-lock",
    "flock",
  ] as const;
  const unusable: string[] = transport === "libfuse" ? only.filter((name) => values[name]) : [];
  if (transport === "libfuse" && (values["translate-uid"] ?? []).length > 0) unusable.push("translate-uid");
  if (transport === "libfuse" && (values["translate-gid"] ?? []).length > 0) unusable.push("translate-gid");
  if (transport === "libfuse" && values.cache !== "auto") unusable.push("cache");
  if (unusable.length > 0) throw new UsageError(`--${unusable[0]} needs --transport devfuse`);
  if (values.writeback && values.passthrough) {
    throw new UsageError("--writeback and --passthrough exclude each other");
  }
  const locks = (["posix-lock", "flock"] as const).filter((name) => values[name]);
  if (values["io-uring"] && locks.length > 0) {
    throw new UsageError(`--io-uring does not go with --${locks[0]}: a wait for a lock would keep a thread`);
  }
  const { guard } = values;
  const mountGuard = mountGuardNames.find((name) => name === guard) ?? null;
  if (mountGuard !== null && values.writeback) {
    throw new UsageError(
      `--guard ${mountGuard} and --writeback exclude each other: the kernel owns the sizes`,
    );
  }
}

export type Cache = { readonly timeoutMs: number; readonly keepCache: boolean; readonly directIo: boolean };

/** virtiofsd's --cache. Timeouts are of names and attributes, unless given. */
export const caches: Readonly<Record<CacheMode, Cache>> = {
  auto: { timeoutMs: 1000, keepCache: false, directIo: false },
  always: { timeoutMs: MAX_TIMEOUT_MS, keepCache: true, directIo: false },
  never: { timeoutMs: 0, keepCache: false, directIo: true },
  metadata: { timeoutMs: MAX_TIMEOUT_MS, keepCache: false, directIo: true },
};

function timeoutMs(name: string, text: string | undefined, cache: Cache): number {
  return text === undefined ? cache.timeoutMs : wholeNumber(name, text, MAX_TIMEOUT_MS);
}

function idRules(name: string, rules: readonly string[]): readonly string[] {
  try {
    IdMap.of(rules);
  } catch (cause) {
    throw new UsageError(`--${name} ${(cause as Error).message}`, { cause });
  }
  return rules;
}

/** One of the words that an option may have. */
export function chosen<W extends string>(name: string, text: string, words: readonly W[]): W {
  const word = words.find((each) => each === text);
  if (word === undefined) throw new UsageError(`--${name} ${text}: there are ${words.join(", ")}`);
  return word;
}

/** The options that every server has, for parseArgs(). */
export const sourceRows = {
  "read-only": { type: "boolean", default: false },
  debug: { type: "boolean", default: false },
  writeback: { type: "boolean", default: false },
  "posix-acl": { type: "boolean", default: false },
  "no-posix-acl": { type: "boolean", default: false },
  "announce-submounts": { type: "boolean", default: false },
  "inode-file-handles": { type: "string", default: "prefer" },
  cache: { type: "string", default: "auto" },
  "allow-direct-io": { type: "boolean", default: false },
  "translate-uid": { type: "string", multiple: true },
  "translate-gid": { type: "string", multiple: true },
  "entry-timeout": { type: "string" },
  "attr-timeout": { type: "string" },
  "parent-pid": { type: "string" },
  detached: { type: "boolean", default: false },
} as const;

/** What parseArgs() makes of them. */
type SourceValues = ReturnType<typeof parseArgs<{ options: typeof sourceRows }>>["values"];

/** Throws a UsageError. */
export function sourceOptions(values: SourceValues, cache: Cache): SourceOptions {
  return {
    readOnly: values["read-only"],
    debug: values.debug,
    writebackCache: values.writeback,
    posixAcl: chosenOf(values, "posix-acl"),
    keepCache: cache.keepCache,
    directIo: cache.directIo,
    allowDirectIo: values["allow-direct-io"],
    translateUid: idRules("translate-uid", values["translate-uid"] ?? []),
    translateGid: idRules("translate-gid", values["translate-gid"] ?? []),
    announceSubmounts: values["announce-submounts"],
    fileHandles: chosen("inode-file-handles", values["inode-file-handles"], fileHandlesUses),
    entryTimeoutMs: timeoutMs("entry-timeout", values["entry-timeout"], cache),
    attributeTimeoutMs: timeoutMs("attr-timeout", values["attr-timeout"], cache),
  };
}

/** To whom the process belongs. */
export type ProcessOptions = {
  /** Must be the parent, or the server ends at once; null: not checked. */
  readonly parentPid: number | null;
  /** Live on after the parent's death. */
  readonly detached: boolean;
};

/** Throws a UsageError. */
export function processOptions({ "parent-pid": parentPid, detached }: SourceValues): ProcessOptions {
  return {
    parentPid: parentPid === undefined ? null : wholeNumber("parent-pid", parentPid, 2 ** 31 - 1),
    detached,
  };
}

type Choice = "posix-acl" | "posix-lock" | "flock";

/** Of an option that has a `--no-` of its own; null: neither is given. */
function chosenOf<N extends Choice>(
  values: { readonly [W in N | `no-${N}`]: boolean },
  name: N,
): boolean | null {
  const [wanted, unwanted] = [values[name], values[`no-${name}`]];
  if (wanted && unwanted) throw new UsageError(`--${name} and --no-${name} exclude each other`);
  return wanted ? true : unwanted ? false : null;
}

/** The path where leases are granted, for the guard that grants them. Throws a UsageError for what goes with no guard. */
function checkedLeaseSocket(
  guard: string | undefined,
  socket: string | undefined,
  transport: Transport,
): string | null {
  if (guard === undefined && socket === undefined) return null;
  if (guard === "kernel-lease" || guard === "sealed") {
    throw new UsageError(
      `--guard ${guard} is for whoever maps a file alone: a server has it open for its clients`,
    );
  }
  if (guard !== undefined && !servedGuards.some((name) => name === guard)) {
    throw new UsageError(`unknown guard ${guard}; there are: ${servedGuards.join(", ")}`);
  }
  if (transport !== "devfuse") throw new UsageError("--guard needs --transport devfuse");
  if (guard !== "fuse-lease") {
    if (socket !== undefined) throw new UsageError("--lease-socket goes with --guard fuse-lease only");
    return null;
  }
  if (socket === undefined) throw new UsageError("--guard fuse-lease needs --lease-socket PATH");
  if (Buffer.byteLength(socket) > MAX_SOCKET_PATH) {
    throw new UsageError(`--lease-socket ${socket} is longer than ${MAX_SOCKET_PATH} bytes`);
  }
  return socket;
}

// The inferred type is exact and local: parseArgs derives it from the options.
function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        ...sourceRows,
        source: { type: "string" },
        mountpoint: { type: "string" },
        transport: { type: "string", default: "devfuse" },
        passthrough: { type: "boolean", default: false },
        "posix-lock": { type: "boolean", default: false },
        "no-posix-lock": { type: "boolean", default: false },
        flock: { type: "boolean", default: false },
        "no-flock": { type: "boolean", default: false },
        "keep-cache": { type: "boolean", default: false },
        faults: { type: "string" },
        "io-uring": { type: "boolean", default: false },
        guard: { type: "string" },
        "lease-socket": { type: "string" },
      },
    }).values;
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
}

/** Of a file of rules: a scenario has sixteen at most. */
const RULES_BYTES_MAX = 64 * 1024;

/** A JSON array of fault rules. */
function faultRules(path: string): readonly FaultRule[] {
  let rules: unknown;
  try {
    rules = JSON.parse(readInput(path, RULES_BYTES_MAX));
  } catch (cause) {
    const reason = cause instanceof InputError ? cause.message : "cannot be read as JSON";
    throw new UsageError(`--faults ${path}: ${reason}`, { cause });
  }
  if (!Array.isArray(rules)) throw new UsageError(`--faults ${path} is not an array of rules`);
  return (rules as readonly unknown[]).map((rule, index) => {
    const where = `rule ${index + 1} of ${path}`;
    if (typeof rule !== "object" || rule === null) throw new UsageError(`${where} is no object`);
    return checkedRule(rule, where);
  });
}

function checkedRule(rule: Partial<FaultRule>, where: string): FaultRule {
  const { operation, at = null, after = 0, times = null, action } = rule;
  if (operation === undefined || !faultOperations.includes(operation)) {
    throw new UsageError(`${where}: operation must be one of ${faultOperations.join(", ")}`);
  }
  const count = (value: unknown): boolean => Number.isInteger(value) && (value as number) >= 0;
  if (!count(after) || (times !== null && !count(times))) {
    throw new UsageError(`${where}: after and times must be whole numbers`);
  }
  if (at !== null && !(count(at) && (operation === "read" || operation === "write"))) {
    throw new UsageError(`${where}: at is a byte of the file, and goes with read and write only`);
  }
  const usable =
    (action?.kind === "delay" && count(action.ms) && action.ms <= MAX_TIMEOUT_MS) ||
    (action?.kind === "fail" && isErrno(action.errno)) ||
    action?.kind === "hang" ||
    (action?.kind === "short" && count(action.bytes)) ||
    (action?.kind === "truncate" && count(action.sizeBytes));
  if (action === undefined || !usable) throw new UsageError(`${where}: unknown or incomplete action`);
  return { operation, at, after, times, action };
}

function isErrno(name: unknown): boolean {
  try {
    return typeof name === "string" && errnoNumber(name) > 0;
  } catch {
    return false;
  }
}

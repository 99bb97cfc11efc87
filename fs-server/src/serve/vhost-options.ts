/** The options of a server that a VMM connects to, by the names that virtiofsd has given them. */
import { parseArgs } from "node:util";
import { cacheModes, fileHandlesUses, windowGuards } from "../../../language/src/words.ts";
import { isUnixListener, MAX_SOCKET_PATH } from "../../../sys/src/index.ts";
import { MAX_THREADS } from "../transport/devfuse/crew.ts";
import type { VhostUserSource } from "../transport/vhost-user/options.ts";
import {
  caches,
  chosen,
  type ProcessOptions,
  processOptions,
  sourceOptions,
  sourceRows,
  UsageError,
  wholeNumber,
} from "./options.ts";
import type { WindowGuard } from "./vhost-guard.ts";

export type VhostServeOptions = VhostUserSource &
  ProcessOptions & {
    /** Where the VMM connects: a path, or a descriptor that listens already. */
    readonly at: { readonly path: string } | { readonly fd: number };
    /** Of the DAX window; 0n: none. */
    readonly windowBytes: bigint;
    /** null: a truncation by the host ends the VMM. */
    readonly guard: WindowGuard | null;
    readonly threads: number;
    readonly requestQueues: number;
    /** Wait for the next VMM when one has left. */
    readonly reconnect: boolean;
  };

export const VHOST_USAGE: string = `usage: serve-main --shared-dir DIR (--socket-path PATH | --fd FD)
  [--tag NAME] [--thread-pool-size N] [--num-request-queues N] [--reconnect]
  [--dax-window SIZE]   e.g. 512M; for QEMU's vhost-user-test-device-pci (11.1)
  [--guard ${windowGuards.join("|")} [--lease-socket PATH]]   with --dax-window
  [--read-only] [--debug] [--detached] [--parent-pid PID] [--sandbox none]
  [--announce-submounts] [--inode-file-handles ${fileHandlesUses.join("|")}]   default prefer
  [--cache ${cacheModes.join("|")}] [--allow-direct-io] [--writeback] [--posix-acl | --no-posix-acl]
  [--translate-uid RULE]... [--translate-gid RULE]... [--no-posix-lock] [--no-flock]`;

/** Whether these are arguments of a server that a VMM connects to. */
export function isVhostUser(args: readonly string[]): boolean {
  return args.some((arg) => /^--(socket-path|fd)(=|$)/.test(arg));
}

const RANGE_BYTES = 2n * 2n ** 20n;
const MAX_REQUEST_QUEUES = 63;
const units: Readonly<Record<string, bigint>> = { "": 1n, k: 2n ** 10n, m: 2n ** 20n, g: 2n ** 30n };

/** `512M`, `1G`, or bytes: whole ranges of 2 MiB, as the guest maps them. Throws a UsageError. */
export function windowSize(text: string): bigint {
  const found = /^([0-9]{1,15})([kmg]?)$/i.exec(text);
  const bytes = BigInt(found?.[1] ?? 0) * (units[found?.[2]?.toLowerCase() ?? ""] ?? 0n);
  if (found === null || bytes === 0n || bytes % RANGE_BYTES !== 0n || bytes > MAX_WINDOW_BYTES) {
    throw new UsageError(
      `--dax-window ${text}: expected a multiple of 2M up to ${MAX_WINDOW_BYTES / 2n ** 20n}M`,
    );
  }
  return bytes;
}

/** 2 MiB for each memory slot that vhost-user has beside those of RAM. */
const MAX_WINDOW_BYTES = 480n * RANGE_BYTES;

/** Parses a server's arguments. Throws a UsageError. */
export function vhostServeOptions(args: readonly string[]): VhostServeOptions {
  const values = parsed(args);
  refuseLocks(values);
  const source = values["shared-dir"];
  if (source === undefined) throw new UsageError("--shared-dir is missing");
  if (values.sandbox !== "none") {
    throw new UsageError(
      `--sandbox ${values.sandbox} is not offered: this server reads its own program while it serves. ` +
        "Next: run it in a mount namespace of your own (unshare, bwrap, a container), with --sandbox none",
    );
  }
  const cache = caches[chosen("cache", values.cache, cacheModes)];
  const windowBytes = values["dax-window"] === undefined ? 0n : windowSize(values["dax-window"]);
  if (windowBytes > 0n && values["read-only"]) {
    throw new UsageError(
      "--dax-window and --read-only exclude each other: QEMU maps files for writing always",
    );
  }
  if (windowBytes > 0n && values.writeback) {
    throw new UsageError(
      "--dax-window and --writeback exclude each other: with DAX there is nothing to write back",
    );
  }
  const pool = values["thread-pool-size"];
  return {
    path: source,
    at: place(values["socket-path"], values.fd),
    tag: checkedTag(values.tag, windowBytes),
    windowBytes,
    guard: windowGuard(values.guard, values["lease-socket"], windowBytes),
    // virtiofsd's 0: no pool, one thread.
    threads:
      pool === undefined ? MAX_THREADS : Math.max(1, wholeNumber("thread-pool-size", pool, MAX_THREADS)),
    requestQueues: Math.max(
      1,
      wholeNumber("num-request-queues", values["num-request-queues"], MAX_REQUEST_QUEUES),
    ),
    reconnect: values.reconnect,
    ...sourceOptions(values, cache),
    ...processOptions(values),
  };
}

/** Throws a UsageError. */
function refuseLocks(values: ReturnType<typeof parsed>): void {
  const [asked] = (["posix-lock", "flock"] as const).filter((name) => values[name]);
  if (asked === undefined) return;
  throw new UsageError(
    `--${asked} is not offered to a VMM: a guest's locks are its own kernel's, and other guests and the host do not see them. ` +
      `Next: leave it out, or mount the folder (serve SOURCE MOUNTPOINT --${asked}) where clients are to share locks`,
  );
}

function windowGuard(
  text: string | undefined,
  leaseSocket: string | undefined,
  windowBytes: bigint,
): WindowGuard | null {
  if (leaseSocket !== undefined && text !== "fuse-lease") {
    throw new UsageError("--lease-socket goes with --guard fuse-lease only");
  }
  if (text === undefined) return null;
  if (windowBytes === 0n)
    throw new UsageError("--guard goes with --dax-window: without DAX nothing of a file is mapped");
  const name = chosen("guard", text, windowGuards);
  if (name !== "fuse-lease") return { name };
  if (leaseSocket === undefined) {
    throw new UsageError(
      "--guard fuse-lease needs --lease-socket PATH, of the server that has mounted the source",
    );
  }
  if (leaseSocket === "" || Buffer.byteLength(leaseSocket) > MAX_SOCKET_PATH) {
    throw new UsageError(`--lease-socket ${leaseSocket}: expected 1 to ${MAX_SOCKET_PATH} bytes`);
  }
  return { name, leaseSocket };
}

function place(path: string | undefined, fd: string | undefined): VhostServeOptions["at"] {
  if (path !== undefined && fd !== undefined)
    throw new UsageError("--socket-path and --fd exclude each other");
  if (fd !== undefined) {
    const number = wholeNumber("fd", fd, 2 ** 31 - 1);
    if (!isUnixListener(number))
      throw new UsageError(`--fd ${fd}: it is no stream socket of unix(7) that listens`);
    return { fd: number };
  }
  if (path === undefined) throw new UsageError("--socket-path or --fd is missing");
  if (path === "" || Buffer.byteLength(path) > MAX_SOCKET_PATH) {
    throw new UsageError(`--socket-path ${path}: expected 1 to ${MAX_SOCKET_PATH} bytes`);
  }
  return { path };
}

/** char tag[36] of struct virtio_fs_config */
const MAX_TAG_BYTES = 36;

function checkedTag(tag: string | undefined, windowBytes: bigint): string | null {
  if (tag === undefined) {
    // The only front-end that has such a window takes the whole configuration space from here.
    if (windowBytes > 0n) throw new UsageError("--dax-window needs --tag NAME, by which the guest mounts it");
    return null;
  }
  const bytes = Buffer.byteLength(tag);
  if (bytes < 1 || bytes > MAX_TAG_BYTES)
    throw new UsageError(`--tag ${tag}: expected 1 to ${MAX_TAG_BYTES} bytes`);
  return tag;
}

// The inferred type is exact and local: parseArgs derives it from the options.
function parsed(args: readonly string[]) {
  try {
    return parseArgs({
      args: [...args],
      options: {
        ...sourceRows,
        "shared-dir": { type: "string" },
        "socket-path": { type: "string" },
        fd: { type: "string" },
        tag: { type: "string" },
        "dax-window": { type: "string" },
        "thread-pool-size": { type: "string" },
        "num-request-queues": { type: "string", default: "1" },
        reconnect: { type: "boolean", default: false },
        guard: { type: "string" },
        "lease-socket": { type: "string" },
        "posix-lock": { type: "boolean", default: false },
        flock: { type: "boolean", default: false },
        "no-posix-lock": { type: "boolean", default: false },
        "no-flock": { type: "boolean", default: false },
        sandbox: { type: "string", default: "none" },
      },
    }).values;
  } catch (cause) {
    throw new UsageError((cause as Error).message, { cause });
  }
}

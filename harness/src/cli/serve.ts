/**
 * `daxfault serve`: the passthrough server alone, in a process of its own, in the foreground or left behind.
 * The server's first line on standard output reports the mount; until then, all its output is an error.
 */
import { type StdioOptions, spawn } from "node:child_process";
import { fstatSync } from "node:fs";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import {
  exitCodeOfSignal,
  exitCodes,
  type InterruptingSignal,
  interruptingSignals,
} from "../../../language/src/index.ts";
import { LostChildError } from "../../../sys/src/index.ts";
import { onAbort } from "../abort.ts";
import { errorText } from "../error-text.ts";
import { builtPath } from "../paths.ts";
import { watchSignals } from "../run/interruption.ts";
import { lackIn, SurroundingsError } from "../surroundings.ts";
import { parseCount, UsageError } from "./usage.ts";

export type ServeCommand = {
  /** devfuse, where none is named. */
  readonly transport?: string;
  readonly readOnly?: boolean;
  readonly debug?: boolean;
  readonly background?: boolean;
  readonly writeback?: boolean;
  readonly passthrough?: boolean;
  readonly ioUring?: boolean;
  /** undefined: where the source has ACLs. */
  readonly posixAcl?: boolean;
  readonly posixLock?: boolean;
  readonly flock?: boolean;
  readonly announceSubmounts?: boolean;
  readonly inodeFileHandles?: string;
  readonly cache?: string;
  readonly allowDirectIo?: boolean;
  readonly translateUid?: readonly string[];
  readonly translateGid?: readonly string[];
  readonly guard?: string;
  readonly leaseSocket?: string;
  /** In place of a mount point: where a VMM connects. */
  readonly socketPath?: string;
  readonly fd?: string;
  readonly tag?: string;
  readonly daxWindow?: string;
  readonly threadPoolSize?: string;
  readonly numRequestQueues?: string;
  readonly reconnect?: boolean;
  readonly sandbox?: string;
};

/** Options of a server that a VMM connects to, and no other. */
const vhostOptions = {
  fd: "--fd",
  tag: "--tag",
  daxWindow: "--dax-window",
  threadPoolSize: "--thread-pool-size",
  numRequestQueues: "--num-request-queues",
  sandbox: "--sandbox",
} as const;
/** Options of a mount, and of no such server. */
const mountOptions = {
  transport: "--transport",
  passthrough: "--passthrough",
  ioUring: "--io-uring",
} as const;

/** Which of `names` were given, by their names. */
function given(
  options: ServeCommand,
  names: Readonly<Partial<Record<keyof ServeCommand, string>>>,
): readonly string[] {
  return Object.entries(names).flatMap(([key, name]) =>
    options[key as keyof ServeCommand] === undefined ? [] : [name],
  );
}

/** Where it serves: arguments of the server. Throws a UsageError. */
function placeOf(source: string, mountpoint: string | undefined, options: ServeCommand): readonly string[] {
  const { socketPath, fd } = options;
  if (socketPath === undefined && fd === undefined) {
    const [alien] = [...given(options, vhostOptions), ...(options.reconnect === true ? ["--reconnect"] : [])];
    if (alien !== undefined) throw new UsageError(`${alien} goes with --socket-path or --fd only`);
    if (mountpoint === undefined)
      throw new UsageError("MOUNTPOINT is missing, or --socket-path PATH for a VMM");
    const transport = ["--transport", options.transport ?? "devfuse"];
    return ["--source", resolve(source), "--mountpoint", resolve(mountpoint), ...transport];
  }
  if (mountpoint !== undefined) throw new UsageError("MOUNTPOINT and --socket-path exclude each other");
  const [alien] = given(options, mountOptions);
  if (alien !== undefined) throw new UsageError(`${alien} is of a mount: it goes not with --socket-path`);
  const values = Object.entries(vhostOptions).flatMap(([key, name]) => {
    const value = options[key as keyof typeof vhostOptions];
    return value === undefined ? [] : [name, value];
  });
  return [
    ...["--shared-dir", resolve(source)],
    ...(socketPath === undefined ? [] : ["--socket-path", resolve(socketPath)]),
    ...values,
    ...(options.reconnect === true ? ["--reconnect"] : []),
  ];
}

type ServerEnd = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** @param interruptedBy the signal that came before the mount was there: afterwards it ends the server as asked */
export function exitCodeOf({ code, signal }: ServerEnd, interruptedBy: InterruptingSignal | null): number {
  if (interruptedBy !== null) return exitCodeOfSignal(interruptedBy);
  if (code !== null) return code;
  const sent = interruptingSignals.find((one) => one === signal);
  if (sent !== undefined) return exitCodeOfSignal(sent);
  throw new LostChildError(`the server was killed by ${signal}; what it served is gone`);
}

/** No process for the server: a limit, or nothing to run or to connect it with (/dev/null). */
function notStarted(error: Error): SurroundingsError {
  const what = `the server cannot be started: ${errorText(error)}`;
  return new SurroundingsError(lackIn(what) ?? { what, next: "see to /dev/null and to limits (ulimit -a)" });
}

const FD_MAX = 1024;

/** Standard streams, and the listening socket by its own number. Throws a UsageError. */
function stdioWith(fd: string | undefined): StdioOptions {
  const streams: ("ignore" | "pipe" | "inherit" | number)[] = ["ignore", "pipe", "inherit"];
  if (fd === undefined) return streams;
  const number = parseCount("--fd", fd, streams.length, FD_MAX);
  try {
    fstatSync(number);
  } catch (error) {
    throw new UsageError(`--fd ${fd}: this command was not given such a descriptor (${errorText(error)})`);
  }
  while (streams.length < number) streams.push("ignore");
  return [...streams, number];
}

/** Returns the exit code: of the server in the foreground, 0 once it is mounted in the background. */
export async function serveCommand(
  source: string,
  mountpoint: string | undefined,
  options: ServeCommand,
): Promise<number> {
  const place = placeOf(source, mountpoint, options);
  const flags = [
    options.readOnly === true ? "--read-only" : null,
    options.debug === true ? "--debug" : null,
    options.writeback === true ? "--writeback" : null,
    options.passthrough === true ? "--passthrough" : null,
    options.ioUring === true ? "--io-uring" : null,
    options.posixLock === true ? "--posix-lock" : null,
    options.flock === true ? "--flock" : null,
    options.announceSubmounts === true ? "--announce-submounts" : null,
    ...(options.cache === undefined ? [] : ["--cache", options.cache]),
    options.allowDirectIo === true ? "--allow-direct-io" : null,
    ...(options.translateUid ?? []).flatMap((rule) => ["--translate-uid", rule]),
    ...(options.translateGid ?? []).flatMap((rule) => ["--translate-gid", rule]),
    ...(options.inodeFileHandles === undefined ? [] : ["--inode-file-handles", options.inodeFileHandles]),
    options.posixAcl === undefined ? null : options.posixAcl ? "--posix-acl" : "--no-posix-acl",
    options.background === true ? "--detached" : "--parent-pid",
    options.background === true ? null : String(process.pid),
    ...(options.guard === undefined ? [] : ["--guard", options.guard]),
    ...(options.leaseSocket === undefined ? [] : ["--lease-socket", resolve(options.leaseSocket)]),
  ].filter((flag) => flag !== null);
  const background = options.background === true;
  const server = spawn(process.execPath, [builtPath("fs-server/src/serve-main.ts"), ...place, ...flags], {
    stdio: stdioWith(options.fd),
    detached: background,
    cwd: "/",
  });
  const { stdout } = server;
  if (stdout === null) throw new Error("a server without standard output");
  // A signal may come to this process alone, or to both. If this process is killed, a server in the background cannot report
  // its mount and ends; one in the foreground ends with its parent.
  const interruption = watchSignals();
  onAbort(interruption.signal, () => void server.kill("SIGTERM"));
  const ended = new Promise<ServerEnd>((done, refuse) => {
    server.on("close", (code, signal) => done({ code, signal }));
    server.on("error", (error) => refuse(notStarted(error)));
  });
  const ready = new Promise<"ready">((done) => {
    createInterface({ input: stdout }).once("line", (line) => {
      process.stdout.write(`${line}\n`);
      done("ready");
    });
  });
  const first = await Promise.race([ready, ended]);
  if (first !== "ready") return exitCodeOf(first, interruption.by());
  if (!background) return exitCodeOf(await ended, null);
  interruption.release();
  server.unref();
  stdout.destroy();
  return exitCodes.ok;
}

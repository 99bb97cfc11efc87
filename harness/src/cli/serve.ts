/**
 * `daxfault serve`: the passthrough server alone, in a process of its own, in the foreground or left behind.
 * The server's first line on standard output reports the mount; until then, all its output is an error.
 */
import { spawn } from "node:child_process";
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

export type ServeCommand = {
  readonly transport: string;
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
};

type ServerEnd = { readonly code: number | null; readonly signal: NodeJS.Signals | null };

/** @param interruptedBy the signal that came before the mount was there: afterwards it ends the server as asked */
export function exitCodeOf({ code, signal }: ServerEnd, interruptedBy: InterruptingSignal | null): number {
  if (interruptedBy !== null) return exitCodeOfSignal(interruptedBy);
  if (code !== null) return code;
  const sent = interruptingSignals.find((one) => one === signal);
  if (sent !== undefined) return exitCodeOfSignal(sent);
  throw new LostChildError(`the server was killed by ${signal}; its mount is gone`);
}

/** No process for the server: a limit, or nothing to run or to connect it with (/dev/null). */
function notStarted(error: Error): SurroundingsError {
  const what = `the server cannot be started: ${errorText(error)}`;
  return new SurroundingsError(lackIn(what) ?? { what, next: "see to /dev/null and to limits (ulimit -a)" });
}

/** Returns the exit code: of the server in the foreground, 0 once it is mounted in the background. */
export async function serveCommand(
  source: string,
  mountpoint: string,
  options: ServeCommand,
): Promise<number> {
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
  const paths = ["--source", resolve(source), "--mountpoint", resolve(mountpoint)];
  const background = options.background === true;
  const server = spawn(
    process.execPath,
    [builtPath("fs-server/src/serve-main.ts"), ...paths, "--transport", options.transport, ...flags],
    { stdio: ["ignore", "pipe", "inherit"], detached: background, cwd: "/" },
  );
  // A signal may come to this process alone, or to both. If this process is killed, a server in the background cannot report
  // its mount and ends; one in the foreground ends with its parent.
  const interruption = watchSignals();
  onAbort(interruption.signal, () => void server.kill("SIGTERM"));
  const ended = new Promise<ServerEnd>((done, refuse) => {
    server.on("close", (code, signal) => done({ code, signal }));
    server.on("error", (error) => refuse(notStarted(error)));
  });
  const ready = new Promise<"ready">((done) => {
    createInterface({ input: server.stdout }).once("line", (line) => {
      process.stdout.write(`${line}\n`);
      done("ready");
    });
  });
  const first = await Promise.race([ready, ended]);
  if (first !== "ready") return exitCodeOf(first, interruption.by());
  if (!background) return exitCodeOf(await ended, null);
  interruption.release();
  server.unref();
  server.stdout.destroy();
  return exitCodes.ok;
}

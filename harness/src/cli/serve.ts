/**
 * `daxfault serve`: the passthrough server alone, in a process of its own, in the foreground or left behind.
 * The server's first line on standard output reports the mount; until then, all its output is an error.
 */
import { spawn } from "node:child_process";
import { resolve } from "node:path";
import { createInterface } from "node:readline";
import { exitCodes } from "../../../language/src/index.ts";
import { errorText } from "../error-text.ts";
import { builtPath } from "../paths.ts";
import { lackIn, SurroundingsError } from "../surroundings.ts";

export type ServeCommand = {
  readonly transport: string;
  readonly readOnly?: boolean;
  readonly debug?: boolean;
  readonly background?: boolean;
  readonly writeback?: boolean;
  readonly passthrough?: boolean;
  readonly guard?: string;
  readonly leaseSocket?: string;
};

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
  // The terminal sends Ctrl-C to a server in the foreground too: this process only waits for it to unmount. One in the
  // background has a session of its own. If this process is killed, that server cannot report its mount and ends.
  process.on("SIGINT", () => background && server.kill("SIGTERM"));
  for (const signal of ["SIGTERM", "SIGHUP"] as const) process.on(signal, () => server.kill("SIGTERM"));
  const ended = new Promise<number>((done, refuse) => {
    server.on("close", (code) => done(code ?? exitCodes.defect));
    server.on("error", (error) => refuse(notStarted(error)));
  });
  const ready = new Promise<"ready">((done) => {
    createInterface({ input: server.stdout }).once("line", (line) => {
      process.stdout.write(`${line}\n`);
      done("ready");
    });
  });
  const first = await Promise.race([ready, ended]);
  if (first !== "ready" || !background) return await ended;
  server.unref();
  server.stdout.destroy();
  return exitCodes.ok;
}

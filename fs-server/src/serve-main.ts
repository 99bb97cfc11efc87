/**
 * The server process: one source, and one mount point or one VMM's socket, until SIGTERM or SIGINT.
 *
 * Says `{"type":"ready",...}` in one line on stdout when the mount is there or the socket listens, everything else on stderr.
 * Exit codes: 0 unmounted as asked; 1 cannot serve; 64 wrong usage. A process of its own, because a server must
 * never share one with anything that touches its mount: that thread would wait for itself.
 *
 * A mount that was never reported is not left behind: if the line cannot be written, because its reader has ended,
 * the server unmounts and ends with 1, detached or not. A detached server keeps nothing of who started it: its stderr
 * leads nowhere once the mount is reported, except with --debug.
 */
import { writeSync } from "node:fs";
import { redirectToNull } from "../../sys/src/index.ts";
import { type ServeOptions, serveOptions, USAGE } from "./serve/options.ts";
import { dieWithParent } from "./serve/parent.ts";
import { type Ready, serve } from "./serve/serve.ts";
import { serveVhost, type VhostReady } from "./serve/vhost.ts";
import {
  isVhostUser,
  VHOST_USAGE,
  type VhostServeOptions,
  vhostServeOptions,
} from "./serve/vhost-options.ts";

const EXIT_CANNOT_SERVE = 1;
const EXIT_USAGE = 64;

const STDOUT = 1;
const STDERR = 2;

/** With --debug a detached server can outlive the reader of its stderr: a message that cannot be written is lost, the mount is not. */
function log(message: string): void {
  process.stderr.write(`daxfault serve: ${message}\n`);
}

type Asked =
  | ({ readonly kind: "mount" } & ServeOptions)
  | ({ readonly kind: "vhost-user" } & VhostServeOptions);

function begun(options: Asked): Promise<{ readonly ready: Ready | VhostReady; fail(why: string): never }> {
  return options.kind === "mount" ? serve(options, log) : serveVhost(options, log);
}

async function main(): Promise<void> {
  process.stderr.on("error", () => {});
  const args = process.argv.slice(2);
  const isVhost = isVhostUser(args);
  let options: Asked;
  try {
    options = isVhost
      ? { kind: "vhost-user", ...vhostServeOptions(args) }
      : { kind: "mount", ...serveOptions(args) };
  } catch (error) {
    // `daxfault serve` has started it, which has a usage of its own.
    const isChild = args.includes("--parent-pid") || args.includes("--detached");
    const usage = isVhost ? VHOST_USAGE : USAGE;
    log(`${(error as Error).message}${isChild ? "" : `\n${usage}`}`);
    process.exit(EXIT_USAGE);
  }
  if (!options.detached && !dieWithParent(options.parentPid)) {
    log("the process that started this server has gone");
    process.exit(EXIT_CANNOT_SERVE);
  }
  try {
    const { ready, fail } = await begun(options);
    try {
      // One write(2) of less than PIPE_BUF, checked: a stream reports EPIPE later, as an event.
      writeSync(STDOUT, `${JSON.stringify(ready)}\n`);
    } catch (error) {
      fail(`the ready line cannot be written (${(error as NodeJS.ErrnoException).code})`);
    }
    if (options.detached && !options.debug) redirectToNull(STDERR);
  } catch (error) {
    log((error as Error).message);
    process.exit(EXIT_CANNOT_SERVE);
  }
}

await main();

/**
 * The server process: one source, one mount point, one transport, until SIGTERM or SIGINT.
 *
 * Says `{"type":"ready",...}` in one line on stdout when the mount is there, everything else on stderr.
 * Exit codes: 0 unmounted as asked; 1 cannot serve; 64 wrong usage. A process of its own, because a server must
 * never share one with anything that touches its mount: that thread would wait for itself.
 */
import { parseArgs } from "node:util";
import { PassthroughFileSystem } from "./passthrough/passthrough.ts";
import { checkedMountPoint, detach, isFuseMounted } from "./serve/mount-point.ts";
import { dieWithParent } from "./serve/parent.ts";
import { mountLibfuse } from "./transport/libfuse/mount.ts";

const EXIT_CANNOT_SERVE = 1;
const EXIT_USAGE = 64;
const USAGE =
  "usage: serve-main --source DIR --mountpoint DIR [--transport libfuse] [--read-only] [--debug] [--parent-pid PID]";

type Arguments = {
  readonly source: string;
  readonly mountPoint: string;
  readonly transport: "libfuse";
  readonly readOnly: boolean;
  readonly debug: boolean;
  readonly parentPid: number | null;
};

function log(message: string): void {
  process.stderr.write(`daxfault serve: ${message}\n`);
}

function parsedArguments(): Arguments {
  const { values } = parseArgs({
    options: {
      source: { type: "string" },
      mountpoint: { type: "string" },
      transport: { type: "string", default: "libfuse" },
      "read-only": { type: "boolean", default: false },
      debug: { type: "boolean", default: false },
      "parent-pid": { type: "string" },
    },
  });
  const { source, mountpoint, transport } = values;
  if (source === undefined) throw new Error("--source is missing");
  if (mountpoint === undefined) throw new Error("--mountpoint is missing");
  if (transport !== "libfuse") throw new Error(`unknown transport ${transport}; there is: libfuse`);
  const parentPid = values["parent-pid"] === undefined ? null : Number(values["parent-pid"]);
  if (parentPid !== null && !Number.isInteger(parentPid)) {
    throw new Error(`--parent-pid ${values["parent-pid"]} is not a process id`);
  }
  const { debug, "read-only": readOnly } = values;
  return { source, mountPoint: mountpoint, transport, readOnly, debug, parentPid };
}

async function serve(args: Arguments): Promise<void> {
  const mountPoint = checkedMountPoint(args.mountPoint);
  const fs = new PassthroughFileSystem(args.source, { readOnly: args.readOnly });
  const stop = (signal: NodeJS.Signals): void => {
    log(`${signal}: unmounting ${mountPoint}`);
    const reason = detach(mountPoint);
    if (reason !== null) log(reason);
    process.exit(reason === null ? 0 : EXIT_CANNOT_SERVE);
  };
  process.on("SIGTERM", stop);
  process.on("SIGINT", stop);
  await mountLibfuse(fs, {
    mountPoint,
    debug: args.debug,
    log: (operation, error) => log(`defect in ${operation}: ${String(error)}`),
  });
  if (!isFuseMounted(mountPoint))
    throw new Error(`${mountPoint} is not in /proc/self/mountinfo after mounting`);
  const ready = { type: "ready", transport: args.transport, mountpoint: mountPoint, pid: process.pid };
  process.stdout.write(`${JSON.stringify(ready)}\n`);
}

async function main(): Promise<void> {
  let args: Arguments;
  try {
    args = parsedArguments();
  } catch (error) {
    log(`${(error as Error).message}\n${USAGE}`);
    process.exit(EXIT_USAGE);
  }
  if (!dieWithParent(args.parentPid)) {
    log("the process that started this server has gone");
    process.exit(EXIT_CANNOT_SERVE);
  }
  try {
    await serve(args);
  } catch (error) {
    log((error as Error).message);
    process.exit(EXIT_CANNOT_SERVE);
  }
}

await main();

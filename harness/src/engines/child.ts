/**
 * A child process of a case: Node running a module of ours from dist/, messages both ways, a bounded end.
 * Children die with this process (they call `dieWithParent`) and carry the case's tag (`run/tag.ts`).
 */
import { execaNode } from "execa";
import { builtPath } from "../paths.ts";
import { childEnvironment } from "../run/tag.ts";
import { within } from "../within.ts";

export { within };

/** The text of a wait status, with the end of the child's stderr. */
export type ChildExit =
  | { readonly kind: "exit"; readonly code: number; readonly stderr: string }
  | { readonly kind: "signal"; readonly signal: string; readonly stderr: string }
  | { readonly kind: "not-started"; readonly message: string; readonly stderr: string };

export type Child<Inbound, Outbound> = {
  readonly pid: number | undefined;
  /** To the child. Ignored once the child has gone. */
  send(message: Inbound): void;
  /** Resolves when the child has ended and all its messages have been delivered. */
  readonly exited: Promise<ChildExit>;
  /** SIGKILL, then waits for the end, but not for ever: a process stuck in the kernel is left to the clean-up. */
  kill(): Promise<void>;
  /** Phantom of the messages it sends. */
  readonly outbound?: Outbound;
};

export type ChildOptions<Outbound> = {
  /** Path of the source file in the repository; its build is what runs. */
  readonly entry: string;
  readonly args?: readonly string[];
  /** The case's folder: tag and working directory. */
  readonly directory: string;
  readonly onMessage: (message: Outbound) => void;
  /** Descriptors of ours that it gets as well, from `FIRST_LENT_DESCRIPTOR` (child-side.ts) on. */
  readonly descriptors?: readonly number[];
};

/** V8 lets it grow to 16 MiB and more in a process that serves many cases; this one's garbage is a case's. */
export const SMALL_YOUNG_GENERATION: string = "--max-semi-space-size=1";
const REAP_BOUND_MS = 3000;
const STDERR_TAIL = 2000;

function tail(text: unknown): string {
  return typeof text === "string" ? text.slice(-STDERR_TAIL) : "";
}

/** Starts a child. Never throws: a child that cannot start has ended at once. */
export function startChild<Inbound extends object, Outbound>(
  options: ChildOptions<Outbound>,
): Child<Inbound, Outbound> {
  // execa takes numbers there as well; its types know them of the first three only.
  const lent = (options.descriptors ?? []) as unknown as readonly "inherit"[];
  const subprocess = execaNode(builtPath(options.entry), options.args ?? [], {
    // This process's own flags (a test runner's, a debugger's) are not the child's.
    nodeOptions: [SMALL_YOUNG_GENERATION],
    cwd: options.directory,
    env: childEnvironment(options.directory),
    stdio: ["ignore", "ignore", "pipe", ...lent],
    ipc: true,
    serialization: "advanced",
    buffer: { ipc: false },
    reject: false,
  });
  subprocess.on("message", (message: unknown) => options.onMessage(message as Outbound));
  const exited = subprocess.then((result): ChildExit => {
    const stderr = tail(result.stderr);
    if (result.signal !== undefined) return { kind: "signal", signal: result.signal, stderr };
    if (result.exitCode !== undefined) return { kind: "exit", code: result.exitCode, stderr };
    return { kind: "not-started", message: result.originalMessage ?? "unknown reason", stderr };
  });
  return {
    pid: subprocess.pid,
    send(message) {
      // The callback takes the error of a channel that has closed: the exit reports it.
      if (subprocess.connected) subprocess.send(message, () => {});
    },
    exited,
    async kill() {
      subprocess.kill("SIGKILL");
      await within(exited, REAP_BOUND_MS);
    },
  };
}

/** `exit 3`, `killed by SIGBUS`, with the last line of stderr. */
export function exitText(exit: ChildExit): string {
  const said = exit.stderr.trim().split("\n").at(-1) ?? "";
  const detail = said === "" ? "" : `: ${said}`;
  switch (exit.kind) {
    case "exit":
      return `exit ${exit.code}${detail}`;
    case "signal":
      return `killed by ${exit.signal}${detail}`;
    case "not-started":
      return `not started: ${exit.message}${detail}`;
  }
}

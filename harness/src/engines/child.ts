/**
 * A child process of a case: Node running a module of ours from dist/, messages both ways, a bounded end.
 * Children die with this process (they call `dieWithParent`) and carry the case's tag (`run/tag.ts`).
 */
import { execa, execaNode } from "execa";
import { lastWords } from "../error-text.ts";
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

/** The part of execa's result that says how a process ended. */
type Ended = {
  readonly signal?: string | undefined;
  readonly exitCode?: number | undefined;
  readonly originalMessage?: string | undefined;
  readonly stderr?: unknown;
};

function exitOf(result: Ended): ChildExit {
  const stderr = tail(result.stderr);
  if (result.signal !== undefined) return { kind: "signal", signal: result.signal, stderr };
  if (result.exitCode !== undefined) return { kind: "exit", code: result.exitCode, stderr };
  return { kind: "not-started", message: result.originalMessage ?? "unknown reason", stderr };
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
  const exited = subprocess.then(exitOf);
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

/** `exit 3`, `killed by SIGBUS`, with what stderr ends with. */
export function exitText(exit: ChildExit): string {
  const said = lastWords(exit.stderr);
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

/** A program of ours that is not Node: descriptors and pipes instead of messages. */
export type Program = {
  /** Writes to its standard input, if it is still there. */
  write(text: string): void;
  /** The end of its standard input. */
  endInput(): void;
  /** Resolves when it has ended. */
  readonly exited: Promise<ChildExit>;
  /** SIGKILL, then waits for the end, but not for ever. */
  kill(): Promise<void>;
};

export type ProgramOptions = {
  readonly path: string;
  readonly args: readonly string[];
  /** The case's folder: tag and working directory. */
  readonly directory: string;
  readonly onOutput: (bytes: Uint8Array) => void;
  /** Descriptors of ours that it gets as well, from `FIRST_LENT_DESCRIPTOR` (child-side.ts) on. */
  readonly descriptors: readonly number[];
};

/** Starts a program. Never throws, as `startChild`. */
export function startProgram(options: ProgramOptions): Program {
  const lent = options.descriptors as unknown as readonly "inherit"[];
  const subprocess = execa(options.path, options.args, {
    cwd: options.directory,
    env: childEnvironment(options.directory),
    stdio: ["pipe", "pipe", "pipe", ...lent],
    buffer: { stdout: false },
    encoding: "buffer",
    reject: false,
  });
  subprocess.stdout.on("data", options.onOutput);
  // A pipe whose reader has gone: its exit says so.
  subprocess.stdin.on("error", () => {});
  const exited = subprocess.then((result) =>
    exitOf({ ...result, stderr: new TextDecoder().decode(result.stderr) }),
  );
  return {
    write(text) {
      if (subprocess.stdin.writable) subprocess.stdin.write(text);
    },
    endInput() {
      subprocess.stdin.end();
    },
    exited,
    async kill() {
      subprocess.kill("SIGKILL");
      await within(exited, REAP_BOUND_MS);
    },
  };
}

/** Processes that lock files, each told what to do next: locks are about several of them. */
import { type ChildProcess, spawn } from "node:child_process";
import { createInterface } from "node:readline";
import { compiledEntry, SIGRTMIN } from "../../../sys/src/index.ts";

const sys = compiledEntry(import.meta.url, "../../../sys/src/index.ts").href;
/** Interrupts a call of the process and does nothing else. */
const SIGNAL = SIGRTMIN + 6;

const SCRIPT = `
  const fs = await import("node:fs"); const sys = await import(${JSON.stringify(sys)});
  const { createInterface } = await import("node:readline");
  sys.handleByNothing(${SIGNAL});
  const opened = new Set();
  const named = (result) => (result < 0 ? sys.errnoName(-result) : result);
  const range = ([type, start, length]) => ({
    type, start: BigInt(start), end: length === 0 ? sys.LOCK_EOF : BigInt(start) + BigInt(length) - 1n,
  });
  const shown = ({ type, start, end, pid }) =>
    type === sys.F_UNLCK ? "free" : [type, Number(start), end === sys.LOCK_EOF ? "end" : Number(end), pid];
  const { lockCommands: C } = sys;
  const commands = {
    open: (path, flags) => { const fd = fs.openSync(path, flags); opened.add(fd); return fd; },
    close: (fd) => { opened.delete(fd); fs.closeSync(fd); return 0; },
    closeAll: () => { for (const fd of opened) fs.closeSync(fd); opened.clear(); return 0; },
    lock: (fd, ...lock) => named(sys.setRangeLock(fd, C.set, range(lock))),
    lockOfDescription: (fd, ...lock) => named(sys.setRangeLock(fd, C.setOfd, range(lock))),
    wait: (fd, ...lock) => named(sys.setRangeLock(fd, C.setWait, range(lock))),
    inTheWay: (fd, ...lock) => {
      const found = sys.rangeLockInTheWay(fd, C.get, range(lock));
      return typeof found === "number" ? named(found) : shown(found);
    },
    flock: (fd, operation) => named(sys.flock(fd, operation)),
    inherit: async (fd) => {
      const { spawn } = await import("node:child_process");
      const child = spawn("sleep", ["60"], { stdio: ["ignore", "ignore", "ignore", fd] });
      await new Promise((done) => child.on("spawn", done));
      return child.pid;
    },
  };
  for await (const line of createInterface({ input: process.stdin })) {
    const [name, ...args] = JSON.parse(line);
    let result; try { result = await commands[name](...args); } catch (error) { result = error.code ?? String(error); }
    process.stdout.write(JSON.stringify(result) + "\\n");
  }`;

export class LockClient {
  readonly #child: ChildProcess;
  readonly #answers: ((answer: unknown) => void)[] = [];

  constructor() {
    this.#child = spawn(process.execPath, ["--input-type=module", "-e", SCRIPT], {
      stdio: ["pipe", "pipe", "inherit"],
    });
    if (this.#child.stdout === null) throw new Error("no stdout");
    createInterface({ input: this.#child.stdout }).on("line", (line) =>
      this.#answers.shift()?.(JSON.parse(line)),
    );
  }

  get pid(): number {
    return this.#child.pid ?? 0;
  }

  /** Resolves when the process has done it. */
  does(command: string, ...args: readonly unknown[]): Promise<unknown> {
    return new Promise((resolve) => {
      this.#answers.push(resolve);
      this.#child.stdin?.write(`${JSON.stringify([command, ...args])}\n`);
    });
  }

  open(path: string, flags = "r+"): Promise<unknown> {
    return this.does("open", path, flags);
  }

  /** A call that the process waits in ends with EINTR. */
  interrupt(): void {
    process.kill(this.pid, SIGNAL);
  }

  end(signal: NodeJS.Signals = "SIGKILL"): Promise<void> {
    return new Promise((resolve) => {
      this.#child.on("close", () => resolve());
      this.#child.kill(signal);
    });
  }
}

/** Resolves with what `promise` came to, or with "waits" if it is open after `ms`. */
export function soon(promise: Promise<unknown>, ms = 300): Promise<unknown> {
  return Promise.race([promise, new Promise((resolve) => setTimeout(resolve, ms, "waits"))]);
}

/** What `look` shows once that is `wanted`, or in the end. For what happens after a call has returned. */
export async function eventually(look: () => Promise<unknown>, wanted: unknown): Promise<unknown> {
  for (let i = 0; ; i += 1) {
    const seen = await look();
    if (seen === wanted || i === 100) return seen;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

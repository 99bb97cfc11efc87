/** `daxfault protect`: while it runs, no file that a VM has mapped gets shorter. */
import { existsSync, realpathSync, statSync } from "node:fs";
import { exitCodes } from "../../../language/src/command-words.ts";
import { SyscallError } from "../../../sys/src/index.ts";
import { ThisHost } from "../diagnose/this-host.ts";
import { errorText } from "../error-text.ts";
import { newsText, type ProtectLine, type ProtectNews } from "../protect/news.ts";
import { type ProtectEnd, type ProtectOptions, Protector } from "../protect/protector.ts";
import { visible, visibleData } from "../report/encode.ts";
import { watchSignals } from "../run/interruption.ts";
import { openJson } from "./json-output.ts";
import { parseCount, UsageError } from "./usage.ts";

export type ProtectCommand = {
  readonly pid?: readonly string[];
  readonly dir?: string;
  readonly allow?: readonly string[];
  readonly seal?: boolean;
  readonly json?: string;
};

const PID_MAX = 2 ** 22;
/** So many like it within a second are one message, and a number. */
const SAME_MS = 1000;

const pidsOf = (option: string, words: readonly string[] | undefined): readonly number[] =>
  (words ?? []).map((word) => parseCount(option, word, 1, PID_MAX));

function folderOf(path: string | undefined): string | null {
  if (path === undefined) return null;
  if (path === "") throw new UsageError('--dir "": a folder has a name');
  try {
    const folder = realpathSync(path);
    if (!statSync(folder).isDirectory()) throw new UsageError(`--dir ${path}: it is no folder`);
    return folder;
  } catch (error) {
    if (error instanceof UsageError) throw error;
    throw new UsageError(`--dir ${path}: ${errorText(error)}`);
  }
}

function optionsOf(command: ProtectCommand): ProtectOptions {
  const pids = pidsOf("--pid", command.pid);
  const folder = folderOf(command.dir);
  if (pids.length === 0 && folder === null)
    throw new UsageError("protect needs --pid PID, of a VMM, or --dir DIR, whose files VMs map");
  const allow = pidsOf("--allow", command.allow);
  const gone = allow.filter((pid) => !existsSync(`/proc/${pid}`));
  if (gone.length > 0) throw new UsageError(`--allow ${gone.join(", ")}: there is no such process`);
  return { pids, folder, allow, seal: command.seal === true };
}

/** Says the same thing once, and how often, however fast it comes. */
class Repeated {
  readonly #print: (text: string) => void;
  #text = "";
  #count = 0;
  #timer: NodeJS.Timeout | null = null;

  constructor(print: (text: string) => void) {
    this.#print = print;
  }

  say(text: string): void {
    if (this.#timer !== null && text === this.#text) {
      this.#count += 1;
      return;
    }
    this.flush();
    this.#print(text);
    this.#text = text;
    this.#timer = setTimeout(() => this.flush(), SAME_MS).unref();
  }

  flush(): void {
    if (this.#timer !== null) clearTimeout(this.#timer);
    this.#timer = null;
    if (this.#count > 0) this.#print(`${this.#count} times more: ${this.#text}`);
    this.#count = 0;
  }
}

function openProtector(options: ProtectOptions, say: (news: ProtectNews) => void): Protector {
  try {
    return new Protector(new ThisHost(), options, say);
  } catch (error) {
    if (!(error instanceof SyscallError)) throw error;
    throw new UsageError(`protect cannot watch files: ${error.message}`);
  }
}

function exitCodeOf(end: ProtectEnd, wasIdle: boolean): number {
  if (end.kind === "failed") {
    console.error(visible(`daxfault protect: ${end.why}: nothing is protected any more`));
    return exitCodes.inconclusive;
  }
  if (!wasIdle) return exitCodes.ok;
  console.error("daxfault protect: nothing was protected, from beginning to end");
  return exitCodes.nothingRan;
}

/**
 * Exit 0: ended by a signal, or all processes have ended; 2: its listener could not be kept alive; 3: not as root, or
 * there was nothing that it could protect.
 */
export async function protectCommand(command: ProtectCommand): Promise<number> {
  const options = optionsOf(command);
  const json = openJson<ProtectLine>(command.json);
  if (process.geteuid?.() !== 0) {
    console.error(
      "daxfault protect: run it as root: permission events need CAP_SYS_ADMIN, and so does looking at VMs",
    );
    return exitCodes.nothingRan;
  }
  const repeated = new Repeated((text) => console.log(text));
  const protector = openProtector(options, (news) => {
    json.write({ at: new Date().toISOString(), ...news });
    if (!json.isStdout) repeated.say(newsText(visibleData(news)));
  });
  const interruption = watchSignals();
  try {
    const missing = protector.missing();
    if (missing.length > 0) throw new UsageError(`--pid ${missing.join(", ")}: there is no such process`);
    return exitCodeOf(await protector.run(interruption.signal), protector.wasIdle);
  } finally {
    await protector.close();
    repeated.flush();
    interruption.release();
  }
}

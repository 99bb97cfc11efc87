/** A mount of a folder by a server process of its own, for tools that act on it as its users do. */
import { spawn } from "node:child_process";
import { mkdirSync } from "node:fs";
import { createInterface } from "node:readline";
import { compiledEntry } from "../../../sys/src/index.ts";
import { detach } from "../serve/mount-point.ts";

export type Mounted = {
  readonly source: string;
  readonly folder: string;
  /** Of the server. */
  readonly pid: number;
  stop(): Promise<void>;
};

const STDERR_CHARACTERS = 2000;

/**
 * Serves `base`-source at `base`-mount, both of which it makes, or says why it cannot.
 * @param args options of serve-main
 * @param before words before the command, of a program that becomes it: prlimit ..
 */
export async function mounted(
  base: string,
  args: readonly string[],
  before: readonly string[] = [],
): Promise<Mounted | string> {
  const [source, folder] = [`${base}-source`, `${base}-mount`];
  mkdirSync(source);
  mkdirSync(folder);
  const main = compiledEntry(import.meta.url, "../serve-main.ts").pathname;
  const at = ["--source", source, "--mountpoint", folder, "--parent-pid", String(process.pid)];
  const [program = "", ...words] = [...before, process.execPath, main, ...at, ...args];
  const child = spawn(program, words, { stdio: ["ignore", "pipe", "pipe"] });
  let said = "";
  child.stderr.on("data", (data: Buffer) => {
    said = (said + data.toString()).slice(-STDERR_CHARACTERS);
  });
  child.on("error", (error) => {
    said += error.message;
  });
  const ended = new Promise<null>((done) => child.on("close", () => done(null)));
  const line = new Promise<string>((done) => createInterface({ input: child.stdout }).once("line", done));
  if ((await Promise.race([line, ended])) === null) return said.trim();
  const stop = async (): Promise<void> => {
    detach(folder);
    child.kill("SIGTERM");
    await ended;
  };
  return { source, folder, pid: child.pid ?? 0, stop };
}

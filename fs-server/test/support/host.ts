/** Another process of the host that does something to a file, and says how long it took and what it got. */
import { type ChildProcess, spawn } from "node:child_process";
import { compiledEntry } from "../../../sys/src/index.ts";

export type Done = { readonly ms: number; readonly errno: string | null };

export type HostProcess = {
  readonly child: ChildProcess;
  readonly done: Promise<Done>;
};

const sys = compiledEntry(import.meta.url, "../../../sys/src/index.ts").href;

/**
 * Runs `code`, in which `path`, `fs` (node:fs) and `sys` (ours) are known. `setup` runs before the time is taken and is
 * over when the returned promise resolves; the process then waits for `go`.
 */
export async function onHost(path: string, code: string, setup = ""): Promise<() => HostProcess> {
  const script = `
    const fs = await import("node:fs"); const sys = await import(${JSON.stringify(sys)});
    const path = process.argv[1]; ${setup};
    process.stdout.write("ready\\n");
    process.stdin.once("data", () => {
      const start = performance.now(); let errno = null;
      try { ${code} } catch (error) { errno = error.code ?? String(error); }
      console.log(JSON.stringify({ ms: performance.now() - start, errno }));
      process.exit();
    });`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, path], {
    stdio: ["pipe", "pipe", "inherit"],
  });
  let said = "";
  let onReady = (): void => {};
  const ready = new Promise<void>((resolve) => {
    onReady = resolve;
  });
  child.stdout?.on("data", (bytes: Buffer) => {
    said += bytes.toString();
    if (said.startsWith("ready\n")) onReady();
  });
  const done = new Promise<Done>((resolve, reject) => {
    child.on("close", (code_, signal) => {
      const line = said.split("\n")[1] ?? "";
      if (line === "") reject(new Error(`the host process ended with ${signal ?? code_}: ${said}`));
      else resolve(JSON.parse(line) as Done);
    });
  });
  // Observed by whoever asks; one that is killed on purpose has nobody.
  done.catch(() => {});
  await ready;
  return () => {
    child.stdin?.write("go\n");
    return { child, done };
  };
}

/** Runs `code` at once. */
export async function hostDoes(path: string, code: string): Promise<Done> {
  return await (await onHost(path, code))().done;
}

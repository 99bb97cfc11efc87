/** Guards in processes of their own that run out of something, or are killed. */
import { spawn } from "node:child_process";
import { readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { compiledEntry } from "../../../sys/src/index.ts";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { onHost } from "../support/host.ts";

const lib = compiledEntry(import.meta.url, "../../src/index.ts").href;

/**
 * Runs `code` with the guards and `path` in scope, at most `descriptors` open. Resolves with what it prints. The limit comes
 * after the modules: Node opens the files of many at once.
 */
function guardProcess(path: string, descriptors: number, code: string) {
  const script = `
    import fs from "node:fs"; import { execFileSync } from "node:child_process";
    const lib = await import(${JSON.stringify(lib)});
    execFileSync("prlimit", ["--pid", String(process.pid), "--nofile=${descriptors}"]);
    const path = process.argv[1]; const nobody = { recall: () => {}, settle() {}, cutOff() {} };
    ${code}`;
  const child = spawn(process.execPath, ["--input-type=module", "-e", script, path], {
    stdio: ["ignore", "pipe", "inherit"],
  });
  let said = "";
  let onLine = (): void => {};
  const line = new Promise<void>((resolve) => {
    onLine = resolve;
  });
  child.stdout.on("data", (bytes: Buffer) => {
    said += bytes.toString();
    if (said.includes("\n")) onLine();
  });
  const ended = new Promise<string>((resolve) => child.on("close", () => resolve(said.trim())));
  return { child, line, ended };
}

function file(): string {
  const path = join(temporaryDirectory(), "file");
  writeFileSync(path, Buffer.alloc(8192, 1));
  return path;
}

describe("a guard at the limit of descriptors", () => {
  it("refuses the next file by name, and goes on guarding the others", async () => {
    const path = file();
    const { ended } = guardProcess(
      path,
      60,
      `const guard = new lib.SealedGuard(); const fd = fs.openSync(path, "r+"); let armed = 0;
       try { for (;;) { guard.arm({ fd }, nobody); armed += 1; } }
       catch (error) { console.log(JSON.stringify([armed > 10, error.name, error.code, error.message])); }
       await guard.close(); fs.closeSync(fs.openSync(path, "r"));`,
    );
    expect(JSON.parse(await ended)).toEqual([
      true,
      "GuardRefused",
      "EMFILE",
      "sealed: no descriptor is left for a copy of the file: raise RLIMIT_NOFILE",
    ]);
  });

  it("says that there is no group left where it cannot even begin", async () => {
    const { ended } = guardProcess(
      file(),
      60,
      `const fds = []; try { for (;;) fds.push(fs.openSync(path, "r")); } catch {}
       try { new lib.NotifyGuard("inotify", { boundMs: 100 }); console.log("[]"); }
       catch (error) { console.log(JSON.stringify([error.name, error.message])); }
       for (const fd of fds) fs.closeSync(fd);`,
    );
    expect(JSON.parse(await ended)).toEqual(["GuardRefused", expect.stringContaining("raise RLIMIT_NOFILE")]);
  });
});

describe("a guard in a process that has nothing else to do", () => {
  it.each([
    ["notify", 'new lib.NotifyGuard("inotify", { boundMs: 100 })'],
    ["kernel-lease", "await lib.KernelLeaseGuard.open({ boundMs: 100 })"],
  ])("%s is closed before the process ends", async (_, open) => {
    const { ended } = guardProcess(
      file(),
      1024,
      `const guard = ${open}; await guard.close(); console.log("closed");`,
    );
    expect(await ended).toBe("closed");
  });
});

describe("a guard whose process is killed while a truncater waits", () => {
  it("holds nobody up: its lease goes with it", async () => {
    const path = file();
    const { child, line } = guardProcess(
      path,
      1024,
      `const guard = await lib.KernelLeaseGuard.open({ boundMs: 40_000 }); const fd = fs.openSync(path, "r+");
       const holder = { ...nobody, recall: () => { console.log("recalled"); return new Promise(() => {}); } };
       guard.arm({ fd }, holder); fs.writeFileSync(path + ".armed", ""); setInterval(() => {}, 1000);`,
    );
    const truncating = await onHost(
      path,
      "sys.truncate(path, 0n)",
      'while (!fs.existsSync(path + ".armed")) await new Promise((done) => setTimeout(done, 5))',
    );
    const acting = truncating();
    await line;
    // It waits, and nothing has happened to the file.
    expect(readFileSync(`/proc/${acting.child.pid}/stat`, "utf8")).not.toBe("");
    child.kill("SIGKILL");
    const done = await acting.done;
    expect(done.errno).toBeNull();
    expect(done.ms).toBeLessThan(30_000);
  });
});

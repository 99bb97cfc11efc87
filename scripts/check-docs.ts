/**
 * Runs every command that the documents show. A fence ```sh is a list of commands, one a line; outside fences a code
 * span that begins with `scripts/daxfault` is one. They run in order in a copy of the checkout's surface, where they may
 * write. The words "exits N" in the line tell which exit code is right (0 otherwise). A fence ```sh manual is not run: it says in its first line
 * why. Where the machine has no KVM, commands that find nothing to run are skipped, with the reason. Also called by .ci/run; not part of npm test, because it runs for real what the documents promise.
 */
import { spawn } from "node:child_process";
import {
  copyFileSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";

/** A command that hangs is a finding; none of them is meant to take this long. */
const COMMAND_BOUND_MS = 300_000;
/** Not by us: CI runs what they do, with the whole output (.ci/run). */
const runByCi: readonly string[] = ["npm start", "npm test"];

export type ShownCommand = {
  readonly file: string;
  readonly line: number;
  readonly command: string;
  readonly exitCode: number;
};

export type Shown = { readonly commands: readonly ShownCommand[]; readonly problems: readonly string[] };

function exitCodeIn(text: string): number {
  return Number(/\bexits (\d+)\b/.exec(text)?.[1] ?? 0);
}

/** The commands of one document. */
export function commandsOf(file: string, text: string): Shown {
  const commands: ShownCommand[] = [];
  const problems: string[] = [];
  let fence: string | null = null;
  for (const [index, line] of text.split("\n").entries()) {
    const mark = /^\s*```(.*)$/.exec(line);
    if (mark !== null) {
      const info = mark[1]?.trim() ?? "";
      const opens: boolean = fence === null;
      fence = opens ? info : null;
      const next = text.split("\n")[index + 1] ?? "";
      if (opens && info === "sh manual" && !next.trim().startsWith("#")) {
        problems.push(`${file}:${index + 1}: a fence that is not run says why in its first line`);
      }
      if (opens && ["bash", "shell", "console"].includes(info)) {
        problems.push(`${file}:${index + 1}: commands stand in fences \`\`\`sh, not ${info}`);
      }
      continue;
    }
    if (fence === null) {
      for (const [, command = ""] of line.matchAll(/`(scripts\/daxfault [^`]+)`/g)) {
        commands.push({
          file,
          line: index + 1,
          command: command.replaceAll("\\|", "|"),
          exitCode: exitCodeIn(line),
        });
      }
      continue;
    }
    if (fence !== "sh" || line.trim() === "" || line.trim().startsWith("#")) continue;
    const [, command = "", comment = ""] = /^(.*?)(?:\s+#\s(.*))?$/.exec(line.trim()) ?? [];
    commands.push({ file, line: index + 1, command, exitCode: exitCodeIn(comment) });
  }
  return { commands, problems };
}

export function documents(root: string): readonly string[] {
  const docs = readdirSync(join(root, "docs")).filter((name) => name.endsWith(".md"));
  return ["README.md", "CONTRIBUTING.md", ...docs.sort().map((name) => `docs/${name}`)];
}

/** A folder that looks like the checkout and may be written to. */
function workingCopy(root: string): string {
  const folder = mkdtempSync(join(tmpdir(), "daxfault-docs-"));
  for (const name of readdirSync(root))
    if (name !== ".git") symlinkSync(join(root, name), join(folder, name));
  // What the documents' examples write to.
  mkdirSync(join(folder, "source"));
  mkdirSync(join(folder, "mnt"));
  copyFileSync(join(root, "fixtures/scenarios/00-hang-without-apf.json"), join(folder, "mine.json"));
  return folder;
}

export type Ended = { readonly code: number | string; readonly output: string };

async function execute(command: string, cwd: string): Promise<Ended> {
  const child = spawn("sh", ["-c", command], {
    cwd,
    stdio: ["ignore", "pipe", "pipe"],
    env: { ...process.env, PATH: `${join(cwd, "scripts")}:${process.env.PATH ?? ""}` },
    detached: true,
  });
  // A server in the background outlives the command that started it, and this process does not wait for it.
  child.unref();
  let output = "";
  for (const stream of [child.stdout, child.stderr]) {
    stream.on("data", (chunk: Buffer) => {
      output = (output + chunk.toString()).slice(-4000);
    });
  }
  const limit = setTimeout(() => process.kill(-(child.pid ?? 0), "SIGTERM"), COMMAND_BOUND_MS);
  const code = await new Promise<number | string>((resolve) => {
    // Not "close": what a command leaves in the background holds its output open.
    child.on("exit", (exit, signal) => resolve(exit ?? signal ?? "unknown"));
  });
  clearTimeout(limit);
  child.stdout.destroy();
  child.stderr.destroy();
  return { code, output };
}

/** What this machine lacks for some engine, in doctor's words; empty where every engine can run. */
async function missingHere(cwd: string): Promise<readonly string[]> {
  const { output } = await execute('scripts/daxfault doctor --json - | grep \'"name":"kvm"\'', cwd);
  const line = output.split("\n").find((one) => one.startsWith("{"));
  if (line === undefined) return ["doctor says nothing of KVM"];
  const { kind, reason } = JSON.parse(line) as { kind: string; reason?: string };
  return kind === "missing" ? [reason ?? "no reason is given"] : [];
}

export type CommandVerdict = "ok" | "skipped" | "FAILED";

/**
 * A command that had nothing to run (exit 3), or that names what is missing as its reason, is skipped where something is
 * missing; where nothing is, either is a failure.
 */
export function verdictOf(
  { code, output }: Ended,
  { expected, missing }: { readonly expected: number; readonly missing: readonly string[] },
): CommandVerdict {
  if (code === expected) return "ok";
  const isNamed = missing.some((reason) => output.includes(reason));
  return missing.length > 0 && (code === 3 || (code === 64 && isNamed)) ? "skipped" : "FAILED";
}

async function main(): Promise<void> {
  const root = process.cwd();
  const only = process.argv[2];
  const failures: string[] = [];
  const missing = await missingHere(root);
  for (const reason of missing) console.log(`kvm: ${reason}: commands that find nothing to run are skipped`);
  let ran = 0;
  let skipped = 0;
  for (const file of documents(root).filter((name) => only === undefined || name === only)) {
    const { commands, problems } = commandsOf(file, readFileSync(join(root, file), "utf8"));
    failures.push(...problems);
    const folder = workingCopy(root);
    try {
      for (const { line, command, exitCode } of commands) {
        if (runByCi.includes(command)) continue;
        const startMs = performance.now();
        const ended = await execute(command, folder);
        const verdict = verdictOf(ended, { expected: exitCode, missing });
        if (verdict === "skipped") skipped += 1;
        else ran += 1;
        const seconds = ((performance.now() - startMs) / 1000).toFixed(1);
        console.log(`${verdict}  ${file}:${line}  ${command}  (${seconds} s)`);
        if (verdict === "FAILED")
          failures.push(`${file}:${line}: ${command}: exit ${ended.code}, not ${exitCode}\n${ended.output}`);
      }
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  }
  for (const failure of failures) console.error(failure);
  console.log(`${ran} commands of the documents run, ${failures.length} failed, ${skipped} skipped`);
  process.exitCode = failures.length > 0 || ran === 0 ? 1 : 0;
}

if (process.argv[1]?.endsWith("check-docs.js") === true) await main();

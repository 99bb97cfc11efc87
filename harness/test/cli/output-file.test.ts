import {
  closeSync,
  linkSync,
  lstatSync,
  mkdirSync,
  openSync,
  readdirSync,
  readFileSync,
  symlinkSync,
  writeFileSync,
} from "node:fs";
import { join } from "node:path";
import { execa } from "execa";
import { afterEach, describe, expect, it } from "vitest";
import { tryLock } from "../../../sys/src/index.ts";
import { commitOutputs, declareInputs, discardOutputs, OutputError } from "../../src/cli/open-outputs.ts";
import { openOutput } from "../../src/cli/output-file.ts";
import { UsageError } from "../../src/cli/usage.ts";
import { builtPath } from "../../src/paths.ts";
import { cli } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

afterEach(discardOutputs);

const bytes = (text: string): Buffer => Buffer.from(text);

describe("an output", () => {
  it("has a name", () => {
    expect(() => openOutput("--html", "")).toThrow(new UsageError('--html "": a file has a name'));
  });

  it("takes its place when the command has all of them, and not before", () => {
    const folder = caseFolder();
    const [a, b] = [join(folder, "a"), join(folder, "b")];
    writeFileSync(a, "old");
    openOutput("--json", a).write(bytes("new"));
    openOutput("--html", b).write(bytes("page"));
    expect(readFileSync(a, "utf8")).toBe("old");
    expect(readdirSync(folder).sort()).toEqual(["a", "a.partial", "b.partial"]);
    commitOutputs();
    expect([readFileSync(a, "utf8"), readFileSync(b, "utf8")]).toEqual(["new", "page"]);
    expect(readdirSync(folder).sort()).toEqual(["a", "b"]);
  });

  it("of another command that still writes it is left alone", () => {
    const path = join(caseFolder(), "a");
    const other = openSync(`${path}.partial`, "wx");
    expect(tryLock(other)).toBe(true);
    expect(() => openOutput("--json", path)).toThrow(
      new UsageError(`--json ${path}: another command writes it now (${path}.partial is locked)`),
    );
    closeSync(other);
    openOutput("--json", path).write(bytes("new"));
    commitOutputs();
    expect(readFileSync(path, "utf8")).toBe("new");
  });

  it("is locked while it is written", () => {
    const path = join(caseFolder(), "a");
    openOutput("--json", path);
    const fd = openSync(`${path}.partial`, "r");
    expect(tryLock(fd)).toBe(false);
    commitOutputs();
    expect(tryLock(fd)).toBe(true);
    closeSync(fd);
  });

  it("is none where the command failed: what was there stays", () => {
    const folder = caseFolder();
    const path = join(folder, "a");
    writeFileSync(path, "old");
    openOutput("--json", path).write(bytes("new"));
    discardOutputs();
    expect(readFileSync(path, "utf8")).toBe("old");
    expect(readdirSync(folder)).toEqual(["a"]);
  });

  it("keeps the mode of the file that it replaces, and replaces a link instead of following it", () => {
    const folder = caseFolder();
    const [path, link] = [join(folder, "a"), join(folder, "link")];
    writeFileSync(path, "old", { mode: 0o600 });
    symlinkSync(path, link);
    openOutput("--json", path).write(bytes("new"));
    openOutput("--html", link).write(bytes("page"));
    commitOutputs();
    expect(lstatSync(path).mode & 0o777).toBe(0o600);
    expect(lstatSync(link).isSymbolicLink()).toBe(false);
    expect(readFileSync(path, "utf8")).toBe("new");
  });

  it("does not write through a link in the place of its partial file", () => {
    const folder = caseFolder();
    writeFileSync(join(folder, "victim"), "old");
    symlinkSync(join(folder, "victim"), join(folder, "a.partial"));
    expect(() => openOutput("--json", join(folder, "a"))).toThrow(UsageError);
    expect(readFileSync(join(folder, "victim"), "utf8")).toBe("old");
  });

  it("is refused where it is an input, by whatever name", () => {
    const folder = caseFolder();
    const [input, name] = [join(folder, "in.jsonl"), join(folder, "name.jsonl")];
    writeFileSync(input, "recorded");
    linkSync(input, name);
    declareInputs([input]);
    for (const path of [input, name, join(folder, ".", "in.jsonl")]) {
      expect(() => openOutput("--json", path)).toThrow(`--json ${path}: it is an input of this command`);
    }
    expect(readFileSync(input, "utf8")).toBe("recorded");
  });

  it("is refused where another option writes to the same file", () => {
    const folder = caseFolder();
    openOutput("--json", join(folder, "a"));
    expect(() => openOutput("--html", `${folder}/./a`)).toThrow("--json writes there, too");
  });

  it("says which could not be written", () => {
    const output = openOutput("--json", "/dev/full");
    expect(() => output.write(bytes("x"))).toThrow(OutputError);
    expect(() => output.write(bytes("x"))).toThrow(/^--json \/dev\/full: .*ENOSPC/);
    expect(() => openOutput("--html", "/nonexistent/x.html")).toThrow(/^--html \/nonexistent\/x.html: /);
  });
});

describe("a command", () => {
  const run = ["run", "load-after-truncate", "-p", "efault-exit", "-e", "model"];

  it("leaves every file as it was where one output cannot be opened", async () => {
    const cwd = caseFolder();
    await cli([...run, "--json", "a.jsonl"], { cwd });
    const recorded = readFileSync(join(cwd, "a.jsonl"), "utf8");
    const refused = [
      ["report", "a.jsonl", "--json", "a.jsonl", "--html", "/nope/x"],
      ["report", "a.jsonl", "--json", "a.jsonl"],
      ["report", "a.jsonl", "--html", "b.html", "--markdown", "b.html"],
      ["compare", "a.jsonl", "--json", "a.jsonl"],
    ];
    for (const args of refused) expect((await cli(args, { cwd })).code).toBe(64);
    expect(readFileSync(join(cwd, "a.jsonl"), "utf8")).toBe(recorded);
    expect(readdirSync(cwd)).toEqual(["a.jsonl"]);
  });

  it("goes on where the reader of its table has gone: its files are written, and its exit code stands", async () => {
    const cwd = caseFolder();
    // No kernel is to do this: the case fails.
    writeFileSync(
      join(cwd, "mine.json"),
      JSON.stringify({
        id: "mine",
        purpose: "Fails on purpose.",
        backing: { size: "1MiB" },
        actors: { victim: { in: "guest-task", steps: ["load 0 8"] } },
        witness: [],
        properties: [],
      }),
    );
    mkdirSync(join(cwd, "kinds"));
    writeFileSync(
      join(cwd, "kinds", "mine.json"),
      JSON.stringify({ about: "x", rows: { mine: { "*": "victim.last zero" } } }),
    );
    const command = `"$0" "$1" run mine.json -p efault-exit -e model --junit j.xml | head -c 1 >/dev/null; echo "\${PIPESTATUS[0]}"`;
    const args = ["-c", command, process.execPath, builtPath("harness/src/cli/main.ts")];
    const { stdout } = await execa("bash", args, { cwd });
    expect(stdout).toBe("1");
    expect(readFileSync(join(cwd, "j.xml"), "utf8")).toContain('failures="1"');
  });

  it("ends with 64 where an output is full, whatever its cases did", async () => {
    const { code, stderr } = await cli([...run, "--json", "/dev/full"]);
    expect(stderr).toContain("--json /dev/full: ");
    expect(stderr).not.toContain("defect");
    expect(code).toBe(64);
  });
});

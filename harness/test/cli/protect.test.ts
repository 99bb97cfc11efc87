import { spawn } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { Ajv2020 } from "ajv/dist/2020.js";
import { describe, expect, it } from "vitest";
import { lineSchema } from "../../src/cli/lines.ts";
import { type ProtectPrice, priceColumns, priceOperations } from "../../src/protect/price-rows.ts";
import { type CliResult, cli, jsonLines, startCli } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";
import { startMapping } from "../support/mapping.ts";
import { noPermissionEvents } from "../support/permission-events.ts";
import { Truncating } from "../support/truncating.ts";

const noEvents = noPermissionEvents();
const isRoot = process.geteuid?.() === 0;

describe("daxfault protect", () => {
  it("refuses what means nothing, and says what does", async () => {
    const file = join(caseFolder(), "file");
    writeFileSync(file, "");
    const rows: readonly (readonly [readonly string[], string])[] = [
      [[], "protect needs --pid PID"],
      [["--pid", "x"], '--pid "x" is not a whole number'],
      [["--pid", "4194304"], "--pid 4194304: there is no such process"],
      [["--dir", "/no such\u001b[31m"], "--dir /no such\\x1b[31m: ENOENT"],
      [["--dir", file], "it is no folder"],
      [["--pid", "1", "--allow", "-1"], "--allow"],
    ];
    for (const [args, text] of rows) {
      const { code, stderr } = await cli(["protect", ...args]);
      expect({ code }, stderr).toEqual({ code: 64 });
      expect(stderr).toContain(text);
      expect(stderr).not.toContain("\u001b");
    }
  });

  /** Its standard output, and how it ended, once `end` has ended the process that it looks at. */
  async function protectUntilReady(pid: number, end: () => unknown): Promise<CliResult> {
    const running = startCli(["protect", "--pid", String(pid)]);
    await new Promise<void>((resolve) => {
      running.stdout.on("data", (bytes: Buffer) => {
        if (bytes.toString().includes("ready")) resolve();
      });
    });
    await end();
    return await running.ended;
  }

  it.skipIf(!isRoot)("of a process without a mapped file says what to do, and ends with 3", async () => {
    const child = spawn("sleep", ["60"]);
    const { code, stdout, stderr } = await protectUntilReady(child.pid ?? 0, () => child.kill());
    expect({ code }, stderr).toEqual({ code: 3 });
    expect(stdout).toContain("ready: 0 files are protected, for none is mapped");
    expect(stdout).toContain("daxfault diagnose");
    expect(stderr).toContain("nothing was protected");
  });

  it.skipIf(!isRoot)("of memory that nothing protects says what else there is, and ends with 3", async () => {
    const mapping = await startMapping([]);
    const { code, stdout, stderr } = await protectUntilReady(mapping.pid, mapping.end);
    expect({ code }, stderr).toEqual({ code: 3 });
    expect(stdout).toContain("ready: NOTHING IS PROTECTED: none of 1 mapped files can be");
    expect(stderr).toContain("nothing was protected");
  });

  it.skipIf(noEvents !== null)(
    "writes lines as the schema has them, and ends when its processes have",
    async () => {
      const path = join(caseFolder(), "a\n\u001b[31mred");
      writeFileSync(path, Buffer.alloc(2 ** 20, 1));
      const truncating = await Truncating.start(path);
      const mapping = await startMapping([path]);
      const running = startCli(["protect", "--pid", String(mapping.pid), "--json", "-"]);
      await new Promise<void>((resolve) => {
        running.stdout.on("data", (bytes: Buffer) => {
          if (bytes.toString().includes('"ready"')) resolve();
        });
      });
      expect((await truncating.try("truncate")).errnos).toEqual({ ETXTBSY: 1 });
      await mapping.end();
      const { code, stdout, stderr } = await running.ended;
      expect({ code, stderr }).toEqual({ code: 0, stderr: "" });
      const lines = jsonLines(stdout);
      const check = new Ajv2020({ strict: false, validateFormats: false }).compile(lineSchema("protect"));
      for (const line of lines) {
        check(line);
        expect(check.errors, JSON.stringify(line)).toBeNull();
      }
      const types = lines.map(({ type }) => type);
      expect(new Set(types)).toEqual(new Set(["file", "ready", "refused", "process-ended"]));
      expect(stdout).not.toContain("\u001b");
    },
  );
});

describe("daxfault bench protect", () => {
  it.skipIf(noEvents !== null)(
    "has every call with and without protection, as the schema has it",
    async () => {
      const { code, stdout, stderr } = await cli(["bench", "protect", "--rounds", "1", "--json", "-"]);
      expect({ code }, stderr).toEqual({ code: 0 });
      const [line, ...others] = jsonLines(stdout);
      expect(others).toEqual([]);
      const check = new Ajv2020({ strict: false, validateFormats: false }).compile(lineSchema("bench"));
      check(line);
      expect(check.errors).toBeNull();
      const rows = (line as ProtectPrice).rows.map(({ operation, column }) => `${operation}, ${column}`);
      expect(rows).toEqual(
        priceOperations.flatMap((one) => priceColumns.map((column) => `${one}, ${column}`)),
      );
    },
  );
});

describe("daxfault rescue", () => {
  it("refuses what means nothing, and what is no VM", async () => {
    const rows: readonly (readonly [readonly string[], string])[] = [
      [["--pid", "1", "--name", "a"], "--pid or --name, not both"],
      [["--pid", "1", "--stop", "--accept-zeros"], "one thing at a time: --accept-zeros or --stop"],
      [["--pid", "4194304", "--stop"], "there is no such process"],
      [["--pid", String(process.pid), "--accept-zeros"], "holds no VM on KVM"],
      [["--name", "no such\u001b[31m"], "no VM has this name"],
    ];
    for (const [args, text] of rows) {
      const { code, stderr, stdout } = await cli(["rescue", ...args]);
      expect({ code, stdout }, stderr).toEqual({ code: 64, stdout: "" });
      expect(stderr).toContain(text);
      expect(stderr).not.toContain("\u001b");
    }
  });
});

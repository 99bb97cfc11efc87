import { execFileSync } from "node:child_process";
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { cli, jsonLines } from "../support/cli.ts";
import { caseFolder } from "../support/folders.ts";

describe("daxfault diagnose", () => {
  it("refuses what means nothing, and says what does", async () => {
    const rows: readonly (readonly [readonly string[], string])[] = [
      [["--pid", "x"], '--pid "x" is not a whole number'],
      [["--pid", "0"], "is not a whole number"],
      [["--pid", "4194304"], "there is no such process"],
      [["--pid", "1", "--name", "a"], "--pid or --name, not both"],
      [["--name", "no such\u001b[31m"], "no VM has this name"],
      [["--pid", String(process.pid)], "holds no VM on KVM"],
      [["--log", "/nowhere"], "there is no such file"],
      [["--log", "/dev/zero"], "not a regular file"],
      [["--log", "/nowhere", "--pid", "1"], "--log stands alone"],
      [["--pid", String(process.pid), "--json", "-", "--mail", "-"], "only one of"],
    ];
    const results = await Promise.all(rows.map(([args]) => cli(["diagnose", ...args])));
    for (const [index, { code, stderr, stdout }] of results.entries()) {
      expect({ code, stdout }, stderr).toEqual({ code: 64, stdout: "" });
      expect(stderr).toContain(rows[index]?.[1]);
      expect(stderr).not.toContain("\u001b");
    }
  });

  it("finds failures in a log, whatever else is in it", async () => {
    const path = join(caseFolder(), "qemu.log");
    writeFileSync(
      path,
      Buffer.concat([Buffer.from([0xff, 0x1b, 0x0a]), Buffer.from("error: kvm run failed Bad address\n")]),
    );
    const { code, stdout } = await cli(["diagnose", "--log", path]);
    expect(code).toBe(1);
    expect(stdout).toMatch(/line 2: error: kvm run failed Bad address\n.*killed by -EFAULT/);
    const { stdout: json } = await cli(["diagnose", "--log", path, "--json", "-"]);
    expect(jsonLines(json)).toMatchObject([{ type: "log", line: 2, verdict: { kind: "killed-by-efault" } }]);
    writeFileSync(path, "all is well\n");
    expect(await cli(["diagnose", "--log", path])).toMatchObject({ code: 0 });
  });

  it("says so where there is no VM, or looks at those that are there", async () => {
    const begin = performance.now();
    const { code, stdout, stderr } = await cli(["diagnose", "--json", "-"]);
    expect(performance.now() - begin).toBeLessThan(20_000);
    if (code === 3) expect(stderr).toContain("no process here has a VM on KVM");
    else expect(jsonLines(stdout)[0]).toMatchObject({ type: "machine" });
  });

  it("is quiet about what another user may not see, and does not fail", () => {
    if (process.getuid?.() !== 0) return;
    const main = new URL("../../../dist/harness/src/cli/bin.js", import.meta.url).pathname;
    const as = ["--reuid=65534", "--regid=65534", "--clear-groups"];
    const run = (): string =>
      execFileSync("setpriv", [...as, process.execPath, main, "diagnose"], {
        encoding: "utf8",
        stdio: "pipe",
      });
    expect(run).toThrow(/processes of other users: run it as root/);
  });
});

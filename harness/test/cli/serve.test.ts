/** `daxfault serve --background`, and what is left when its launcher is killed while the server mounts. */
import { spawnSync } from "node:child_process";
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { LostChildError, mountsBelow } from "../../../sys/src/index.ts";
import { exitCodeOf } from "../../src/cli/serve.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { builtPath } from "../../src/paths.ts";
import { startCli } from "../support/cli.ts";
import { caseFolder, eventually } from "../support/folders.ts";

const withFuse = supportOf(thisMachine(), ["fuse"]).kind === "yes";

/** Servers of the folder, by their command lines. */
function serversOf(folder: string): readonly number[] {
  return readdirSync("/proc")
    .map(Number)
    .filter((pid) => pid > 0)
    .filter((pid) => {
      try {
        const words = readFileSync(`/proc/${pid}/cmdline`, "utf8");
        return words.includes("serve-main") && words.includes(folder);
      } catch {
        return false;
      }
    });
}

function places(): { readonly folder: string; readonly args: readonly string[] } {
  const folder = caseFolder();
  const [source, mounted] = [join(folder, "source"), join(folder, "mounted")];
  for (const path of [source, mounted]) mkdirSync(path);
  return { folder, args: ["serve", source, mounted, "--background"] };
}

describe.skipIf(!withFuse)("serve --background", () => {
  it("returns with the mount in place, which SIGTERM to the server takes away", async () => {
    const { folder, args } = places();
    // spawnSync returns when both pipes are closed: the server keeps neither.
    const launcher = spawnSync(process.execPath, [builtPath("harness/src/cli/main.ts"), ...args], {
      stdio: ["ignore", "pipe", "pipe"],
      timeout: 30_000,
      encoding: "utf8",
    });
    expect(launcher.status).toBe(0);
    const { pid } = JSON.parse(launcher.stdout) as { readonly pid: number };
    writeFileSync(join(folder, "mounted", "file"), "x");
    expect(readFileSync(join(folder, "source", "file"), "utf8")).toBe("x");
    process.kill(pid, "SIGTERM");
    expect(await eventually(() => serversOf(folder).length === 0)).toBe(true);
    expect(mountsBelow(folder)).toEqual([]);
  });

  it.each([
    [{ code: 0, signal: null }, null, 0],
    // Asked to end before the mount was there: nothing was served.
    [{ code: 0, signal: null }, "SIGTERM", 143],
    [{ code: null, signal: "SIGTERM" }, "SIGHUP", 129],
    [{ code: null, signal: "SIGINT" }, null, 130],
    [{ code: 1, signal: null }, null, 1],
  ] as const)("a server that ends with %j, interrupted by %s, makes it %i", (end, by, code) => {
    expect(exitCodeOf(end, by)).toBe(code);
  });

  it("names the signal that killed a server, which is no defect", () => {
    expect(() => exitCodeOf({ code: null, signal: "SIGKILL" }, null)).toThrow(LostChildError);
  });

  it("in the foreground ends on SIGINT to its process alone", async () => {
    const { folder, args } = places();
    const launcher = startCli(args.filter((word) => word !== "--background"));
    expect(await eventually(() => mountsBelow(folder).length > 0, 15_000)).toBe(true);
    launcher.kill("SIGINT");
    expect([0, 130]).toContain((await launcher.ended).code);
    expect(mountsBelow(folder)).toEqual([]);
  });

  it.each(["SIGHUP", "SIGINT", "SIGTERM", "SIGKILL"] as const)(
    "leaves neither mount nor server when the launcher gets %s while the server mounts",
    async (signal) => {
      const { folder, args } = places();
      const launcher = startCli(args);
      expect(await eventually(() => serversOf(folder).length > 0, 15_000)).toBe(true);
      launcher.kill(signal);
      await launcher.ended;
      expect(await eventually(() => serversOf(folder).length === 0, 15_000)).toBe(true);
      expect(mountsBelow(folder)).toEqual([]);
    },
  );
});

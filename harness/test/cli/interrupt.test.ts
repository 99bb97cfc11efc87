/** However a run ends, nothing of it is left: no process, no mount, no file. */
import { existsSync, readdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { mountsBelow } from "../../../sys/src/index.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { supportOf, thisMachine } from "../../src/machine.ts";
import { processesOf, RUN_DIRECTORY_PREFIX } from "../../src/run/sweep.ts";
import { type RunningCli, startCli } from "../support/cli.ts";
import { caseFolder, eventually } from "../support/folders.ts";

const machine = thisMachine();
const process_ = supportOf(machine, ["steps"]);
const kvm = supportOf(machine, ["kvm", "micro-guest"]);
const withFuse = supportOf(machine, ["fuse"]).kind === "yes";

/** Victim and host wait for each other until the time is over, the host on a mount of ours where that is possible. */
function endlessScenario(): string {
  const path = join(caseFolder(), "endless.json");
  writeFileSync(
    path,
    JSON.stringify({
      id: "endless",
      purpose: "Nobody ever gets on.",
      backing: { size: "1MiB" },
      actors: {
        victim: { in: "guest-task", steps: ["load 0 8", "await cut", "signal touched"] },
        host: {
          in: "host-process",
          through: withFuse ? "mount" : "file",
          steps: ["await touched", "truncate 0", "signal cut"],
        },
      },
      witness: [],
      properties: [],
    }),
  );
  return path;
}

type Running = {
  readonly cli: RunningCli;
  readonly directory: string;
};

/** Starts a run and waits until a case is well under way. */
async function startRun(
  args: readonly string[],
  isUnderWay: (directory: string) => boolean,
): Promise<Running> {
  const cli = startCli(["run", ...args]);
  let text = "";
  cli.stdout.on("data", (chunk: Buffer) => {
    text += chunk.toString();
  });
  const directory = (): string => /files +(\S+) on/.exec(text)?.[1] ?? "";
  expect(await eventually(() => directory() !== "" && isUnderWay(directory()), 15_000)).toBe(true);
  return { cli, directory: directory() };
}

async function expectNothingLeft(directory: string): Promise<void> {
  const isGone = (): boolean =>
    !existsSync(directory) && processesOf(directory).length === 0 && mountsBelow(directory).length === 0;
  expect(await eventually(isGone, 5000)).toBe(true);
}

/** The victim, the host actor, and the server where there is one. */
const allStarted = (directory: string): boolean =>
  processesOf(directory).length >= (withFuse ? 3 : 2) && (!withFuse || mountsBelow(directory).length === 1);

describe.skipIf(process_.kind === "no")("a run with the engine process", () => {
  const args = () => [endlessScenario(), "--engine", "process"];

  it("leaves nothing after kill -9", async () => {
    const { cli, directory } = await startRun(args(), allStarted);
    cli.kill("SIGKILL");
    await cli.ended;
    await expectNothingLeft(directory);
  });

  const signals = [
    ["SIGHUP", 129],
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const;
  it.each(signals.filter(([signal]) => isLong || signal === "SIGINT"))(
    "ends on %s with %d, and says that the result is partial",
    async (signal, code) => {
      const { cli, directory } = await startRun(args(), allStarted);
      const sentAtMs = performance.now();
      cli.kill(signal);
      const { code: exitCode, stdout } = await cli.ended;
      expect(performance.now() - sentAtMs).toBeLessThan(4000);
      expect(exitCode).toBe(code);
      expect(stdout).toContain("Interrupted");
      expect(stdout).toContain("the result is partial");
      await expectNothingLeft(directory);
    },
  );
});

describe.skipIf(kvm.kind === "no")("a run with the engine kvm", () => {
  it("leaves nothing after kill -9 in the middle of the endless loop", async () => {
    const { cli, directory } = await startRun(
      ["hang-without-apf"],
      (folder) => processesOf(folder).length >= 2,
    );
    cli.kill("SIGKILL");
    await cli.ended;
    await expectNothingLeft(directory);
  });
});

/** Folders of runs in `parent`. */
const runsIn = (parent: string): readonly string[] =>
  readdirSync(parent).filter((name) => name.startsWith(RUN_DIRECTORY_PREFIX));

describe("measurements", () => {
  const bench = supportOf(machine, ["fuse"]).kind === "yes";

  it.skipIf(!bench).each(isLong ? (["SIGTERM", "SIGKILL"] as const) : (["SIGKILL"] as const))(
    "of the file server leave neither folder, mount nor process after %s",
    async (signal) => {
      const parent = caseFolder();
      const cli = startCli(["bench", "fs", "--folder", parent, "--placement", "together"]);
      expect(await eventually(() => mountsBelow(parent).length > 0, 15_000)).toBe(true);
      const [name = ""] = runsIn(parent);
      cli.kill(signal);
      const { code } = await cli.ended;
      expect(code).toBe(signal === "SIGTERM" ? 143 : undefined);
      expect(await eventually(() => runsIn(parent).length === 0)).toBe(true);
      expect(mountsBelow(parent)).toEqual([]);
      expect(await eventually(() => processesOf(join(parent, name)).length === 0)).toBe(true);
    },
  );

  it("that occupy the thread end at once on SIGTERM, and leave nothing", async () => {
    const parent = caseFolder();
    const cli = startCli(["bench", "explore"], { env: { TMPDIR: parent } });
    expect(await eventually(() => runsIn(parent).length > 0, 15_000)).toBe(true);
    cli.kill("SIGTERM");
    expect((await cli.ended).signal).toBe("SIGTERM");
    expect(await eventually(() => readdirSync(parent).length === 0)).toBe(true);
  });
});

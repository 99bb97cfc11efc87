import { existsSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { afterEach, beforeEach, describe, expect, it, vi } from "vitest";
import type { InterruptingSignal } from "../../../language/src/index.ts";
import { liveInFolder } from "../../src/cli/life.ts";

const command = "daxfault test";
let said: string[] = [];

beforeEach(() => {
  said = [];
  vi.spyOn(console, "error").mockImplementation((text: string) => void said.push(text));
});
afterEach(() => vi.restoreAllMocks());

/** A body during which the signal comes, and that then ends as given. */
async function interruptedBy(signal: InterruptingSignal, end: () => number): Promise<number> {
  return liveInFolder({ command, soFar: () => "3 of 9 cells" }, async (life) => {
    process.kill(process.pid, signal);
    while (!life.signal.aborted) await sleep(1);
    return end();
  });
}

describe("a command with a folder", () => {
  it("has its exit code, and its folder is gone", async () => {
    let path = "";
    const code = await liveInFolder({ command }, async ({ directory }) => {
      path = directory.path;
      expect(existsSync(path)).toBe(true);
      return 2;
    });
    expect(code).toBe(2);
    expect(existsSync(path)).toBe(false);
    expect(said).toEqual([]);
  });

  it.each([
    ["SIGHUP", 129],
    ["SIGINT", 130],
    ["SIGTERM", 143],
  ] as const)(
    "interrupted by %s it ends with %i, whatever its body says, and how far it came",
    async (signal, code) => {
      expect(await interruptedBy(signal, () => 0)).toBe(code);
      expect(said).toEqual([`daxfault test: interrupted by ${signal}: 3 of 9 cells`]);
    },
  );

  it("takes what fails because of the signal for no defect", async () => {
    const broken = (): number => {
      throw new Error("the race was ended");
    };
    expect(await interruptedBy("SIGTERM", broken)).toBe(143);
  });

  it("leaves other errors as they are", async () => {
    const failing = liveInFolder({ command }, () => Promise.reject(new Error("a defect")));
    await expect(failing).rejects.toThrow("a defect");
  });
});

import { afterEach, describe, expect, it, vi } from "vitest";
import { type Interruption, watchSignals } from "../../src/run/interruption.ts";

let watched: Interruption | null = null;
afterEach(() => {
  watched?.release();
  vi.restoreAllMocks();
});

function watching() {
  const exit = vi.spyOn(process, "exit").mockImplementation((() => undefined) as never);
  let atMs = 0;
  watched = watchSignals(() => atMs);
  const interruption = watched;
  const send = (name: "SIGTERM" | "SIGINT", laterMs: number): void => {
    atMs += laterMs;
    process.emit(name, name);
  };
  return { exit, interruption, send };
}

describe("signals", () => {
  it("of timeout(1), which come twice, end what runs, and not the report of it", () => {
    const { exit, interruption, send } = watching();
    send("SIGTERM", 0);
    send("SIGTERM", 1);
    expect(interruption.signal.aborted).toBe(true);
    expect(interruption.by()).toBe("SIGTERM");
    expect(exit).not.toHaveBeenCalled();
  });

  it.each([
    ["the same one, later", "SIGTERM", 500, 143],
    ["another one, at once", "SIGINT", 1, 130],
  ] as const)("end the process at the second: %s", (_what, second, laterMs, code) => {
    const { exit, send } = watching();
    send("SIGTERM", 0);
    send(second, laterMs);
    expect(exit).toHaveBeenCalledWith(code);
  });
});

/** The kernel's own trace of this process, where it may be had. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { afterAll, describe, expect, it } from "vitest";
import { openTrace, type TraceSelection, type TraceSession } from "../../src/tracing/tracefs.ts";

const directory = mkdtempSync(join(tmpdir(), "daxfault-tracefs-"));
const SIGNAL = 10;

/** One line for each SIGUSR1 that this process sends to itself. */
const selection = (name: string): TraceSelection => ({
  name,
  events: [{ event: "signal/signal_generate", filter: `sig == ${SIGNAL} && pid == ${process.pid}` }],
  except: [],
  bufferKib: 4,
  processes: "all",
});

const ignore = (): void => {};
process.on("SIGUSR1", ignore);

const trial = openTrace(directory, selection("trial"));
const lack = trial.finish();
const noTracefs = lack.kind === "none" ? lack.reason : null;

afterAll(() => {
  process.off("SIGUSR1", ignore);
  rmSync(directory, { recursive: true });
});

const signals = (from: ReturnType<TraceSession["finish"]>): number =>
  from.kind === "none"
    ? -1
    : from.text.split("\n").filter((line) => line.includes("signal_generate:")).length;

describe.skipIf(noTracefs !== null)(`a trace (${noTracefs ?? "tracefs"})`, () => {
  it("gives each event once, and goes on until it ends", () => {
    const session = openTrace(directory, selection("drained"));
    expect(signals(session.drain())).toBe(0);
    process.kill(process.pid, SIGNAL);
    process.kill(process.pid, SIGNAL);
    expect(signals(session.drain())).toBe(2);
    expect(signals(session.drain())).toBe(0);
    process.kill(process.pid, SIGNAL);
    expect(signals(session.finish())).toBe(1);
    expect(session.drain()).toMatchObject({ kind: "none" });
  });

  it("stands beside another one of the same process", () => {
    const [one, other] = ["one", "other"].map((name) => openTrace(directory, selection(name)));
    process.kill(process.pid, SIGNAL);
    expect(one === undefined ? -1 : signals(one.finish())).toBe(1);
    process.kill(process.pid, SIGNAL);
    expect(other === undefined ? -1 : signals(other.finish())).toBe(2);
  });
});

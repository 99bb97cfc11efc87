/** What only the static program can: the processor's own accesses, and handlers. */

import { readFileSync } from "node:fs";
import { setTimeout as sleep } from "node:timers/promises";
import { describe, expect, it } from "vitest";
import type {
  Actor,
  Evidence,
  GuestStep,
  HostStep,
  RunResult,
  Scenario,
} from "../../../../language/src/index.ts";
import { proposalOf, scenarioWith } from "../../../../language/test/support/cases.ts";
import { isLong } from "../../../../sys/test/support/long.ts";
import { accessFeatures, processEngine } from "../../../src/engines/process/engine.ts";
import { processesOf } from "../../../src/run/sweep.ts";
import { caseFolder, eventually } from "../../support/folders.ts";

const available = await processEngine.available();
const note = available.kind === "no" ? ` (skipped: ${available.reason})` : "";

async function evidence(scenario: Scenario): Promise<Evidence> {
  const signal = new AbortController().signal;
  const context = { directory: caseFolder(), timeoutMs: 10_000, signal, slowness: 1 };
  const result = await processEngine.run(scenario, proposalOf("native"), context);
  if (result.kind !== "evidence") throw new Error(`${result.kind}: ${result.message}`);
  return result.evidence;
}

/** The file ends before the first access behind the signals. */
function cut(
  steps: readonly GuestStep[],
  more: Partial<Extract<Actor, { in: "guest-task" }>> = {},
): Scenario {
  const host: HostStep[] = [
    { verb: "await", name: "touched" },
    { verb: "truncate", size: 0n },
    { verb: "signal", name: "cut" },
  ];
  const signals: GuestStep[] = [
    { verb: "signal", name: "touched" },
    { verb: "await", name: "cut" },
  ];
  return scenarioWith({
    actors: {
      victim: { in: "guest-task", steps: [...signals, ...steps], ...more },
      host: { in: "host-process", through: "file", steps: host },
    },
  });
}

describe.skipIf(available.kind === "no")(`the engine process${note}`, () => {
  it("executes code from the file", async () => {
    const { backing } = scenarioWith({});
    const { observations } = await evidence(
      scenarioWith({
        backing: { ...backing, content: "code" },
        actors: { victim: { in: "guest-task", steps: [{ verb: "fetch", offset: 0x1000n }] } },
      }),
    );
    expect(observations.accesses.victim).toEqual({ "fetch#1": { kind: "value", value: 0xda000001n } });
  });

  it("has a stack in the file: a push is there, a lost one is SIGBUS", async () => {
    const push: GuestStep = { verb: "push", offset: 0x1008n, value: 7n };
    const there = await evidence(
      scenarioWith({
        actors: {
          victim: { in: "guest-task", steps: [push, { verb: "load", offset: 0x1008n, size: 8 }] },
        },
      }),
    );
    expect(there.observations.accesses.victim).toEqual({
      "push#1": { kind: "value", value: 7n },
      "load#1": { kind: "value", value: 7n },
    });
    const lost = await evidence(cut([push]));
    expect(lost.observations.accesses.victim).toEqual({ "push#1": { kind: "sigbus", code: "BUS_ADRERR" } });
  });

  it("goes on with the next step where the task handles SIGBUS, and counts each", async () => {
    const steps: GuestStep[] = [
      { verb: "load", offset: 0x1000n, size: 8 },
      { verb: "store", offset: 0n, size: 1, value: 1n },
    ];
    const { observations, counts, trace } = await evidence(cut(steps, { onSigbus: "next-step" }));
    expect(observations.accesses.victim).toEqual({
      "load#1": { kind: "sigbus", code: "BUS_ADRERR" },
      "store#1": { kind: "sigbus", code: "BUS_ADRERR" },
    });
    expect(counts).toMatchObject({ sigbus: 2 });
    const details = trace.filter(({ kind }) => kind === "sigbus").map(({ detail }) => detail);
    expect(details).toEqual([
      expect.stringMatching(/^load#1: si_code 2 address 0x40001000 rip 0x/),
      expect.stringMatching(/^store#1: si_code 2 address 0x40000000 rip 0x/),
    ]);
  });

  it("kills another task, which is an end and no failure", async () => {
    const waits: Actor = { in: "guest-task", steps: [{ verb: "await", name: "never" }] };
    const kills: Actor = {
      in: "guest-task",
      steps: [
        { verb: "load", offset: 0n, size: 1 },
        { verb: "kill", actor: "waits" },
      ],
    };
    const { observations } = await evidence(scenarioWith({ actors: { waits, kills } }));
    expect(observations.accesses.kills).toEqual({ "load#1": { kind: "value", value: 0n } });
  });

  it("makes system calls on the file, from where the window has their offset", async () => {
    const { observations } = await evidence(
      scenarioWith({
        window: [{ fileOffset: 0x3000n, at: 0x1000n, length: 0x1000n }],
        actors: {
          victim: {
            in: "guest-task",
            steps: [
              { verb: "file-size", offset: 0n },
              { verb: "file-read", offset: 0x1008n, size: 8 },
              { verb: "file-write", offset: 0x1010n, size: 4, value: 5n },
              { verb: "load", offset: 0x1010n, size: 4 },
              { verb: "msync", offset: 0x1010n, size: 4 },
              { verb: "fsync", offset: 0n },
            ],
          },
        },
      }),
    );
    expect(observations.accesses.victim).toEqual({
      "file-size#1": { kind: "value", value: 0x400000n },
      "file-read#1": { kind: "value", value: 0xda0000003008n },
      "file-write#1": { kind: "value", value: 5n },
      "load#1": { kind: "value", value: 5n },
      "msync#1": { kind: "done" },
      "fsync#1": { kind: "done" },
    });
  });

  it("a child of a task meets the lost page alone; the task goes on, and has its own SIGBUS", async () => {
    const load: GuestStep = { verb: "load", offset: 0x1000n, size: 8 };
    const { observations, counts } = await evidence(
      cut([{ verb: "fork-load", offset: 0x1000n, size: 8 }, { verb: "file-size", offset: 0n }, load]),
    );
    expect(observations.accesses.victim).toEqual({
      "fork-load#1": { kind: "sigbus", code: "BUS_ADRERR" },
      "file-size#1": { kind: "value", value: 0n },
      "load#1": { kind: "sigbus", code: "BUS_ADRERR" },
    });
    expect(counts).toMatchObject({ sigbus: 2 });
  });

  it("compares what was seen with the file as it was before a task truncates it", async () => {
    const load: GuestStep = { verb: "load", offset: 0x1000n, size: 8 };
    const resize = (newSize: bigint): GuestStep => ({ verb: "file-truncate", offset: 0n, newSize });
    const { observations } = await evidence(
      scenarioWith({
        actors: {
          victim: {
            in: "guest-task",
            steps: [load, resize(0x1004n), { verb: "file-size", offset: 0n }, resize(0x3000n), load],
          },
        },
      }),
    );
    expect(observations.accesses.victim).toEqual({
      "load#1": { kind: "value", value: 0xda0000001000n },
      "file-truncate#1": { kind: "done" },
      "file-size#1": { kind: "value", value: 0x1004n },
      "file-truncate#2": { kind: "done" },
      "load#2": { kind: "value", value: 0x1000n },
    });
  });

  it("a system call that ends with the file is short, and the task goes on", async () => {
    const { observations } = await evidence(
      cut([
        { verb: "file-read", offset: 0x1000n, size: 8 },
        { verb: "file-size", offset: 0n },
      ]),
    );
    expect(observations.accesses.victim).toEqual({
      "file-read#1": { kind: "short", bytes: 0 },
      "file-size#1": { kind: "value", value: 0n },
    });
  });

  it("a page that nothing maps is SIGSEGV, with the kernel's si_code", async () => {
    const { observations, counts, trace } = await evidence(
      scenarioWith({
        window: [{ fileOffset: 0n, at: 0n, length: 0x1000n }],
        actors: { victim: { in: "guest-task", steps: [{ verb: "load", offset: 0xff8n, size: 16 }] } },
      }),
    );
    expect(observations.accesses.victim).toEqual({
      "load#1": { kind: "sigsegv", code: "SEGV_ACCERR" },
    });
    expect(counts).toEqual({ map: 1, sigsegv: 1 });
    expect(trace.at(-1)?.detail).toMatch(/^load#1: si_code 2 address 0x40001000 rip 0x/);
  });

  it("a handler whose stack is in the lost page: the kernel has no room for its frame, SIGSEGV without address", async () => {
    const { observations } = await evidence(
      cut([{ verb: "push", offset: 0x1008n, value: 7n }], { onSigbus: "next-step" }),
    );
    expect(observations.accesses.victim).toEqual({ "push#1": { kind: "sigsegv", code: "SI_KERNEL" } });
  });
});

/** Of the case's processes: the program, and the tasks that it has started. */
type Processes = { readonly program: number; readonly tasks: readonly number[] };

function processesIn(directory: string): Processes | null {
  const all = processesOf(directory);
  const parentOf = (pid: number): number =>
    Number(/^PPid:\s*(\d+)$/m.exec(readFileSync(`/proc/${pid}/status`, "utf8"))?.[1]);
  const program = all.find((pid) => parentOf(pid) === process.pid);
  const tasks = all.filter((pid) => parentOf(pid) === program);
  return program === undefined || tasks.length === 0 ? null : { program, tasks };
}

describe.skipIf(available.kind === "no")("a signal from outside", () => {
  const waits: Actor = { in: "guest-task", steps: [{ verb: "await", name: "never" }] };

  /** Sends it once the tasks are there. */
  async function attacked(
    actors: Scenario["actors"],
    signal: NodeJS.Signals,
    target: (processes: Processes) => number | undefined,
  ): Promise<RunResult> {
    const directory = caseFolder();
    const context = { directory, timeoutMs: 10_000, signal: new AbortController().signal, slowness: 1 };
    const running = processEngine.run(scenarioWith({ actors }), proposalOf("native"), context);
    let processes: Processes | null = null;
    expect(
      await eventually(() => {
        processes = processesIn(directory);
        return processes !== null;
      }),
    ).toBe(true);
    await sleep(200);
    process.kill((processes === null ? undefined : target(processes)) ?? Number.NaN, signal);
    return await running;
  }

  it("that ends the program is named", async () => {
    expect(await attacked({ waits }, "SIGKILL", ({ program }) => program)).toEqual({
      kind: "engine-error",
      message: "the program that runs the tasks: killed by SIGKILL",
    });
  });

  it.each(["killed", "next-step"] as const)(
    "SIGBUS to a task that would be %s by it is no lost page, but named",
    async (onSigbus) => {
      const result = await attacked({ waits: { ...waits, onSigbus } }, "SIGBUS", ({ tasks }) => tasks[0]);
      expect(result).toEqual({
        kind: "engine-error",
        message: "process of waits: SIGBUS sent from outside",
      });
    },
  );

  it.runIf(isLong)("that comes before another task's kill is named", async () => {
    const kills: Actor = {
      in: "guest-task",
      steps: [
        { verb: "await", name: "never" },
        { verb: "kill", actor: "waits" },
      ],
    };
    expect(await attacked({ waits, kills }, "SIGKILL", ({ tasks }) => Math.min(...tasks))).toEqual({
      kind: "engine-error",
      message: "process of waits: killed by SIGKILL",
    });
  });
});

describe("accessFeatures", () => {
  it("reads what the kernel lets processes use", () => {
    expect(accessFeatures("processor\t: 0\nflags\t\t: fpu cx16 avx\n")).toEqual({
      avx: true,
      avx512: false,
      cmpxchg16b: true,
    });
    expect(accessFeatures("")).toEqual({ avx: false, avx512: false, cmpxchg16b: false });
  });
});

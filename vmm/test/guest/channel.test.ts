import { describe, expect, it } from "vitest";
import { sigbusReactions } from "../../../language/src/index.ts";
import { machineLayout } from "../../src/arch/x86/layout.ts";
import {
  Channel,
  channelLayout,
  decodeDoorbell,
  type GuestVerb,
  verbNumber,
} from "../../src/guest/channel.ts";
import { compileAndRun, compilerOrReason } from "../support/compile.ts";

const folders = ["step", "micro/x86"].map(
  (name) => new URL(`../../guest/${name}/`, import.meta.url).pathname,
);

/** Entries whose C name is theirs. */
function named<Name extends string>(...names: Name[]): Record<Name, Name> {
  return Object.fromEntries(names.map((name) => [name, name])) as Record<Name, Name>;
}

/** C expression for each entry of `channelLayout`, so that no number is written twice. */
const expressions: Record<keyof typeof channelLayout, string> = {
  CHANNEL_MAGIC: "CHANNEL_MAGIC",
  WINDOW_ADDRESS: "WINDOW_ADDRESS",
  ...named("CONFIGURE_LAPIC", "CONFIGURE_APF", "CONFIGURE_TIMER", "CONFIGURE_NMI_IS_SIGBUS"),
  ...named("CONFIGURE_MCE_SAFE_READS", "CONFIGURE_MCE_SAFE_WRITES", "CONFIGURE_PF_IS_ERROR"),
  ...named(
    "STEP_INTERRUPTS_OFF",
    "STEP_NO_FIXUP",
    "STEP_REPEATS",
    "STEP_TALLIES",
    "SIGBUS_ADRERR",
    "SIGBUS_MCEERR_AR",
  ),
  MAX_CPUS: "MAX_CPUS",
  ...named(
    "CONFIGURE_APF_ERROR",
    "CONFIGURE_APF_SEND_ALWAYS",
    "CONFIGURE_VE_INFO",
    "CONFIGURE_NMI_READS_PAGE",
    "CONFIGURE_APF_SLEEPS_LATE",
    "CONFIGURE_NMI_BEFORE_READING",
  ),
  ...named("CONFIGURE_NMI_SAVES_CR2", "CONFIGURE_NMI_SAVES_FLAGS", "TASK_INTERRUPTS_OFF", "TASK_NESTED"),
  TASK_SIGSEGV_IS_SIGBUS: "TASK_SIGSEGV_IS_SIGBUS",
  MAX_TASKS: "MAX_TASKS",
  MAX_STEPS: "MAX_STEPS",
  MAX_SIGNALS: "MAX_SIGNALS",
  MAX_EVENTS: "MAX_EVENTS",
  MAX_ACCESS_BYTES: "MAX_ACCESS_BYTES",
  sizeofStep: "sizeof(struct step)",
  sizeofResult: "sizeof(struct result)",
  sizeofTaskProgram: "sizeof(struct task_program)",
  sizeofTaskReport: "sizeof(struct task_report)",
  sizeofEvent: "sizeof(struct event)",
  sizeofChannel: "sizeof(struct channel)",
  offsetofConfiguration: "offsetof(struct channel, configuration)",
  offsetofTaskCount: "offsetof(struct channel, task_count)",
  offsetofSignals: "offsetof(struct channel, signals)",
  offsetofCpus: "offsetof(struct channel, cpus)",
  sizeofCpuReport: "sizeof(struct cpu_report)",
  offsetofCpuEventCount: "offsetof(struct cpu_report, event_count)",
  offsetofCpuApfNotPresentCount: "offsetof(struct cpu_report, apf_not_present_count)",
  offsetofCpuApfReadyCount: "offsetof(struct cpu_report, apf_ready_count)",
  offsetofCpuNmiCount: "offsetof(struct cpu_report, nmi_count)",
  offsetofCpuCurrentTask: "offsetof(struct cpu_report, current_task)",
  offsetofCpuHeartbeat: "offsetof(struct cpu_report, heartbeat)",
  offsetofCpuOutstanding: "offsetof(struct cpu_report, outstanding)",
  offsetofCpuEarlyTokens: "offsetof(struct cpu_report, early_tokens)",
  offsetofCpuOopsCount: "offsetof(struct cpu_report, oops_count)",
  offsetofCpuEvents: "offsetof(struct cpu_report, events)",
  offsetofPrograms: "offsetof(struct channel, programs)",
  offsetofReports: "offsetof(struct channel, reports)",
  offsetofReportCurrentStep: "offsetof(struct task_report, current_step)",
  offsetofReportCount: "offsetof(struct task_report, count)",
  offsetofReportRip: "offsetof(struct task_report, rip)",
  offsetofReportResults: "offsetof(struct task_report, results)",
  offsetofResultCode: "offsetof(struct result, code)",
  offsetofResultBytes: "offsetof(struct result, bytes)",
  offsetofResultBegan: "offsetof(struct result, began)",
  offsetofResultEnded: "offsetof(struct result, ended)",
  offsetofProgramOnSigbus: "offsetof(struct task_program, on_sigbus)",
  offsetofProgramCpu: "offsetof(struct task_program, cpu)",
  offsetofProgramFlags: "offsetof(struct task_program, flags)",
  offsetofProgramStepCount: "offsetof(struct task_program, step_count)",
  offsetofProgramSteps: "offsetof(struct task_program, steps)",
};

/** The same for `machineLayout`. */
const machineExpressions: Record<keyof typeof machineLayout, string> = {
  ...named("IMAGE_ADDRESS", "CHANNEL_ADDRESS", "RAM_BYTES", "CPU_AREA_BYTES", "DOORBELL_PORT"),
  ...named("VE_INFORMATION_ADDRESS", "PV_ERROR_ADDRESS", "APF_AREA_ADDRESS"),
  ...named("VECTOR_APF_READY", "VECTOR_PV_ERROR", "VECTOR_TIMER"),
  ...named("ACCESS_SIZES", "SELECTOR_TSS", "BOOT_STACK_BYTES", "PAGE_ERROR"),
  offsetofApfReadyFlags: "offsetof(struct apf_area, ready_flags)",
  sizeofVeInformation: "sizeof(struct ve_information)",
  offsetofVeBusy: "offsetof(struct ve_information, busy)",
  offsetofVeExitQualification: "offsetof(struct ve_information, exit_qualification)",
  offsetofVeLinearAddress: "offsetof(struct ve_information, linear_address)",
  offsetofVePhysicalAddress: "offsetof(struct ve_information, physical_address)",
  sizeofPvError: "sizeof(struct pv_error)",
  offsetofPvErrorLinearAddress: "offsetof(struct pv_error, linear_address)",
  offsetofPvErrorPhysicalAddress: "offsetof(struct pv_error, physical_address)",
};

/** `next-step` -> `NEXT_STEP`. */
function constantName(word: string): string {
  return word.toUpperCase().replaceAll("-", "_");
}

const compiler = compilerOrReason();

describe("channel.ts and layout.ts against channel.h and machine.h", () => {
  it.skipIf(compiler.reason !== null)(`has the compiler's layout${compiler.note}`, () => {
    const lines = Object.entries({
      ...expressions,
      ...machineExpressions,
      ...Object.fromEntries(
        Object.keys(verbNumber).map((verb) => [`verb ${verb}`, `VERB_${constantName(verb)}`]),
      ),
      ...Object.fromEntries(
        sigbusReactions.map((reaction) => [`reaction ${reaction}`, `ON_SIGBUS_${constantName(reaction)}`]),
      ),
    }).map(([name, expression]) => `printf("%s=%llu\\n", "${name}", (unsigned long long)(${expression}));`);
    const output = compileAndRun(
      `#include <stddef.h>\n#include <stdio.h>\n#include "machine.h"\nint main(void) { ${lines.join("\n")} }`,
      folders.map((folder) => `-I${folder}`),
    );
    const actual = Object.fromEntries(
      output
        .trim()
        .split("\n")
        .map((line) => line.split("=")),
    );
    const expected = Object.fromEntries([
      ...Object.entries({ ...channelLayout, ...machineLayout }).map(([name, value]) => [name, String(value)]),
      ...Object.entries(verbNumber).map(([verb, number]) => [`verb ${verb}`, String(number)]),
      ...sigbusReactions.map((reaction, number) => [`reaction ${reaction}`, String(number)]),
    ]);
    expect(actual).toEqual(expected);
  });
});

describe("Channel", () => {
  const memory = () => new Uint8Array(channelLayout.sizeofChannel);

  it("refuses more tasks, steps and signals than there is room for, naming the limit", () => {
    const channel = new Channel(memory());
    const step = { verb: "load", size: 8, address: 0n, value: 0n } as const;
    expect(() => channel.configure(0, [])).toThrow("0 guest tasks: expected 1 to 104");
    expect(() => channel.configure(0, [{ cpl: 3, steps: Array(65).fill(step) }])).toThrow(
      "65 steps for guest task 0: at most 64",
    );
    expect(() => channel.raise(16)).toThrow("signal 16: expected 0 to 15");
  });

  it("bounds what a hostile guest writes: step index, event count, task state", () => {
    const hostile = memory();
    const channel = new Channel(hostile);
    hostile.fill(0xff);
    expect(channel.currentStep(0)).toBe(63);
    expect(channel.currentTask(1)).toBe(103);
    expect(() => channel.currentTask(2)).toThrow("vCPU 2: expected 0 to 1");
    expect(channel.events()).toHaveLength(2 * 256);
    expect(channel.events()[0]?.kind).toBe("unknown");
    expect(channel.taskState(103)).toBe("unused");
    expect(channel.result(103, 63).status).toBe("not-reached");
  });

  it("knows a task's own access from what its kernel or a VM of its own does", () => {
    const channel = new Channel(new Uint8Array(channelLayout.sizeofChannel));
    const step = (verb: GuestVerb) => ({ verb, size: 8, address: 0x40001000n, value: 0n });
    const verbs = ["load", "copy-to", "kernel-read", "file-read", "signal", "again"] as const;
    channel.configure(0, [
      { cpl: 3, steps: verbs.map(step) },
      { cpl: 3, nested: true, steps: [step("load")] },
    ]);
    expect(verbs.map((_, index) => channel.isOwnAccess(0, index))).toEqual([
      true,
      true,
      false,
      false,
      false,
      false,
    ]);
    expect(channel.isOwnAccess(1, 0)).toBe(false);
  });

  it("decodes the doorbell, and says so when it cannot", () => {
    expect(decodeDoorbell(0x301)).toEqual({ kind: "signal", number: 3 });
    expect(decodeDoorbell(0x20301)).toEqual({ kind: "signal", number: 3, task: 1 });
    expect(decodeDoorbell(0x690301)).toMatchObject({ kind: "unknown" });
    expect(decodeDoorbell(5)).toEqual({ kind: "ready" });
    expect(decodeDoorbell(6)).toEqual({ kind: "idle" });
    expect(decodeDoorbell(0x20007)).toEqual({ kind: "results", task: 1 });
    expect(decodeDoorbell(7)).toEqual({ kind: "unknown", value: 7 });
    expect(decodeDoorbell(0x690007)).toMatchObject({ kind: "unknown" });
    expect(decodeDoorbell(0x1001)).toEqual({ kind: "unknown", value: 0x1001 });
    expect(decodeDoorbell(2)).toEqual({ kind: "finished" });
    expect(decodeDoorbell(0x403)).toMatchObject({ kind: "panic" });
    expect(decodeDoorbell(4)).toEqual({ kind: "nmi" });
    expect(decodeDoorbell(0xffffffff)).toEqual({ kind: "unknown", value: 0xffffffff });
  });
});

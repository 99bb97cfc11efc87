/** From a scenario's guest actors to the programs that the step interpreter runs, in the micro-guest or in Linux. Pure. */
import {
  cpuOf,
  type GuestStep,
  guestActors,
  isAccess,
  kernelCopyOptionsOf,
  mappingsOf,
  type Scenario,
  seenBytes,
  signalNames,
  touchOf,
  untilOf,
  writtenValue,
} from "../../../language/src/index.ts";
import {
  type CpuFeatures,
  channelLayout,
  type ProgramStep,
  type TaskProgram,
  WINDOW_BASE,
} from "../../../vmm/src/index.ts";
import type { Support } from "../engine.ts";

/** Windows are whole 2 MiB ranges, as the Linux driver asks for them. */
const WINDOW_STEP = 2 * 2 ** 20;

export type GuestTask = { readonly actor: string; readonly program: TaskProgram };

/** Guest tasks in the order of the scenario. */
export function guestTasks(scenario: Scenario): readonly GuestTask[] {
  const signals = signalNames(scenario);
  const names = guestActors(scenario).map(([name]) => name);
  return guestActors(scenario).map(([name, actor]) => ({
    actor: name,
    program: {
      cpl: actor.in === "guest-kernel" ? 0 : 3,
      cpu: cpuOf(actor),
      interruptsOff: actor.in === "guest-task" && actor.interrupts === "off",
      nested: actor.in === "guest-task" && actor.nested === true,
      onSigbus: (actor.in === "guest-task" ? actor.onSigbus : undefined) ?? "killed",
      steps: actor.steps.map((step) => programStep(step, signals, names)),
    },
  }));
}

/** @param tasks the guest actors' names; a task's number is its place */
function programStep(step: GuestStep, signals: readonly string[], tasks: readonly string[]): ProgramStep {
  const number = (name: string): number => {
    const found = signals.indexOf(name);
    if (found >= 0 && found < channelLayout.MAX_SIGNALS) return found;
    throw new RangeError(`signal ${name}: number ${found} of at most ${channelLayout.MAX_SIGNALS}`);
  };
  const nothing = { verb: step.verb, size: 0, address: 0n, value: 0n };
  if (isAccess(step)) {
    const until = untilOf(step);
    const options = kernelCopyOptionsOf(step);
    return {
      verb: step.verb,
      size: "size" in step ? step.size : seenBytes(step),
      address: WINDOW_BASE + step.offset,
      value: "newSize" in step ? step.newSize : writtenValue(step),
      ...(until === null ? {} : { until: number(until) }),
      interruptsOff: options.includes("irqs-off"),
      noFixup: options.includes("no-fixup"),
    };
  }
  if ("name" in step) return { ...nothing, address: BigInt(number(step.name)) };
  if ("actor" in step) return { ...nothing, address: BigInt(tasks.indexOf(step.actor)) };
  return nothing;
}

/** Of a window that holds all mappings. */
export function windowBytesOf(scenario: Scenario): number {
  const end = Math.max(...mappingsOf(scenario).map(({ at, length }) => Number(at + length)));
  return Math.ceil(end / WINDOW_STEP) * WINDOW_STEP;
}

const no = (reason: string): Support => ({ kind: "no", reason, fix: null });

/** The features that decide which accesses a processor can execute. */
export type AccessFeatures = Pick<CpuFeatures, "avx" | "avx512" | "cmpxchg16b">;

/**
 * Which of the scenario's accesses the processor can execute.
 * @param processor as messages call it: `this KVM`
 */
export function supportsAccesses(scenario: Scenario, features: AccessFeatures, processor: string): Support {
  for (const [name, actor] of guestActors(scenario)) {
    for (const step of actor.steps.filter(isAccess)) {
      const { instruction } = touchOf(step);
      const size = seenBytes(step);
      const wide = instruction === "move" && size > 16;
      if (wide && actor.in === "guest-kernel") {
        return no(
          `${name}: ${step.verb} of ${size} bytes at CPL 0: the micro-kernel uses no vector registers`,
        );
      }
      const lacks = (feature: string): Support =>
        no(
          `${name}: ${step.verb} of ${size} bytes in one instruction needs ${feature}, which ${processor} does not offer`,
        );
      if (wide && size === 32 && !features.avx) return lacks("AVX");
      if (wide && size === 64 && !features.avx512) return lacks("AVX-512");
      if (instruction === "locked" && size === 16 && !features.cmpxchg16b) {
        return no(`${name}: ${step.verb} of 16 bytes needs CMPXCHG16B, which ${processor} does not offer`);
      }
    }
  }
  return { kind: "yes" };
}

/** `daxfault rescue`: what would end a VM's hang, and, where it is named, doing it. */
import { release } from "node:os";
import { exitCodeOfSignal, exitCodes } from "../../../language/src/command-words.ts";
import { exitNow } from "../../../sys/src/looking.ts";
import type { Collected } from "../diagnose/collect.ts";
import type { VmFacts } from "../diagnose/facts.ts";
import { ThisHost } from "../diagnose/this-host.ts";
import { type Diagnosis, diagnose } from "../diagnose/verdict.ts";
import { vmTitle } from "../diagnose/words.ts";
import { visibleData } from "../report/encode.ts";
import { paragraph, type Style } from "../report/style.ts";
import { act, stuckCalls } from "../rescue/act.ts";
import { type After, lookAfter } from "../rescue/after.ts";
import {
  optionOf,
  planOf,
  priceText,
  type RescueKind,
  type RescuePlan,
  type RescueStep,
  stepText,
} from "../rescue/plan.ts";
import { type JsonOutput, openJson } from "./json-output.ts";
import type { RescueLine } from "./lines/rescue.ts";
import { commitOutputs } from "./open-outputs.ts";
import { UsageError } from "./usage.ts";
import { lookAround, nothingToLookAt, wantedOf } from "./vm-choice.ts";

export type RescueOptions = {
  readonly pid?: string;
  readonly name?: string;
  readonly acceptZeros?: boolean;
  readonly continue?: boolean;
  readonly stop?: boolean;
  readonly dryRun?: boolean;
  readonly json?: string;
};

/** What is to be done; null: nothing. */
function askedOf({ acceptZeros, stop, ...options }: RescueOptions): RescueKind | null {
  const asked: RescueKind[] = [
    ...(acceptZeros === true ? (["grow"] as const) : []),
    ...(options.continue === true ? (["continue"] as const) : []),
    ...(stop === true ? (["stop"] as const) : []),
  ];
  if (asked.length > 1)
    throw new UsageError(`one thing at a time: ${asked.map((kind) => optionOf[kind]).join(" or ")}`);
  return asked[0] ?? null;
}

type Said = { readonly json: JsonOutput<RescueLine>; readonly style: Style };

function print({ json, style }: Said, text: string, indent: number): void {
  if (json.isStdout) return;
  const lines = paragraph(visibleData([text])[0] ?? "", style.widthColumns, {
    first: indent,
    rest: indent + 2,
  });
  console.log(lines.join("\n"));
}

function sayPlan(said: Said, { vm, verdict }: Diagnosis, { steps, hints }: RescuePlan): void {
  said.json.write({
    type: "plan",
    pid: vm.pid,
    verdict,
    steps: steps.map((step) => ({
      option: optionOf[step.kind],
      kind: step.kind,
      what: stepText(step),
      price: priceText(step),
    })),
    hints,
  });
  print(said, vmTitle(vm), 0);
  print(said, verdict.text, 2);
  for (const warning of verdict.warnings) print(said, `warning: ${warning}`, 2);
  for (const hint of hints) print(said, hint, 2);
  if (steps.length > 0) print(said, "what can be done:", 2);
  for (const step of steps) {
    print(said, `${optionOf[step.kind]}: ${stepText(step)}`, 4);
    print(said, `price: ${priceText(step)}`, 6);
  }
}

/** Of a dry run, or where nothing was named. */
function codeWithoutAct({ verdict }: Diagnosis): number {
  if (verdict.severity === "hung") return exitCodes.unexpected;
  return verdict.severity === "open" ? exitCodes.inconclusive : exitCodes.ok;
}

function sayAfter(said: Said, pid: number, after: After): number {
  const { goesOn, afterMs, verdict } = after;
  said.json.write({ type: "after", pid, goesOn, afterMs: Math.round(afterMs), verdict });
  const text = verdict === null ? "the process has ended" : verdict.text;
  print(
    said,
    `${goesOn ? "the VM goes on" : "the VM does not go on"}, seen after ${Math.round(afterMs)} ms: ${text}`,
    2,
  );
  if (goesOn) return exitCodes.ok;
  return verdict?.severity === "hung" ? exitCodes.unexpected : exitCodes.inconclusive;
}

async function carryOut(said: Said, host: ThisHost, vm: VmFacts, step: RescueStep): Promise<number> {
  print(said, `now: ${stepText(step)}`, 2);
  const results = await act(host, step, vm.startTicks);
  for (const { kind, text } of results) {
    said.json.write({ type: "done", pid: vm.pid, result: kind, text });
    print(said, `${kind === "failed" ? "FAILED" : kind}: ${text}`, 2);
  }
  const isOver = results.at(-1)?.kind !== "failed";
  if (step.kind === "stop") return isOver ? exitCodes.ok : exitCodes.unexpected;
  if (results.every(({ kind }) => kind === "failed")) return exitCodes.unexpected;
  return sayAfter(said, vm.pid, await lookAfter(host, vm));
}

function oneOf({ facts }: Collected): Diagnosis {
  const diagnoses = facts.vms.filter(({ vms }) => vms > 0).map((vm) => diagnose(vm, facts.pageWorkers));
  const [one, ...others] = diagnoses;
  if (one === undefined || others.length > 0) {
    const names = diagnoses.map(({ vm }) => vmTitle(vm)).join("; ");
    throw new UsageError(
      `rescue is of one VM; there are ${diagnoses.length}: name one with --pid or --name (${names})`,
    );
  }
  return one;
}

/** Exit 0: it goes on, was healthy, or ended as asked; 1: it hangs still; 2: it cannot be said; 3: there is no VM. */
export async function rescueCommand(options: RescueOptions, style: Style): Promise<number> {
  const asked = askedOf(options);
  const wanted = wantedOf(options);
  const said: Said = { json: openJson<RescueLine>(options.json), style };
  const host = new ThisHost();
  const collected = await lookAround(host, wanted, { kernel: release(), isRoot: process.getuid?.() === 0 });
  if (typeof collected === "string") {
    console.error(`daxfault rescue: interrupted by ${collected}: nothing was done`);
    return exitCodeOfSignal(collected);
  }
  const nothing = nothingToLookAt("rescue", wanted, collected);
  if (nothing !== null) return nothing;
  const diagnosis = oneOf(collected);
  const plan = planOf(diagnosis);
  sayPlan(said, diagnosis, plan);
  const step = plan.steps.find(({ kind }) => kind === asked);
  let code = codeWithoutAct(diagnosis);
  if (asked !== null && step === undefined) {
    print(
      said,
      `${optionOf[asked]}: there is nothing of that kind to be done for this VM; nothing was done`,
      2,
    );
  } else if (step === undefined || options.dryRun === true) {
    if (plan.steps.length > 0) print(said, "nothing was done: name what is to be done, without --dry-run", 2);
  } else code = await carryOut(said, host, diagnosis.vm, step);
  if (host.stuck + stuckCalls() > 0) {
    // A read or a call that nobody answers occupies a thread of the pool: the process must not wait for it.
    commitOutputs();
    exitNow(code);
  }
  return code;
}

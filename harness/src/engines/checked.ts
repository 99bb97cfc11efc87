/**
 * Wraps an engine and holds it to its contract: complete observations, a VMM history that is never empty, figures
 * that are figures. All breaches are listed at once; evidence that breaks the contract becomes an engine error.
 */

import {
  accessesOf,
  actionsOf,
  type Evidence,
  eventKinds,
  guestActors,
  hostActors,
  isBystander,
  type RunResult,
  type Scenario,
} from "../../../language/src/index.ts";
import type { Engine } from "../engine.ts";
import { errorText } from "../error-text.ts";
import { lackIn, problemText } from "../surroundings.ts";

function checkLabels(
  what: string,
  seen: Readonly<Record<string, unknown>>,
  expected: readonly string[],
  breaches: string[],
): void {
  const labels = Object.keys(seen);
  for (const label of expected) if (!labels.includes(label)) breaches.push(`${what} has no ${label}`);
  for (const label of labels)
    if (!expected.includes(label)) breaches.push(`${what} has ${label}, which the scenario has not`);
}

function checkObservations(scenario: Scenario, evidence: Evidence, breaches: string[]): void {
  const { accesses, host, vmm, guestKernel, bystanders } = evidence.observations;
  const guests = guestActors(scenario);
  const hosts = hostActors(scenario);
  checkLabels(
    "accesses",
    accesses,
    guests.map(([name]) => name),
    breaches,
  );
  for (const [name, actor] of guests) {
    const labels = accessesOf(actor).map(({ label }) => label);
    const seen = accesses[name];
    if (seen !== undefined) checkLabels(`accesses.${name}`, seen, labels, breaches);
  }
  checkLabels(
    "host",
    host,
    hosts.map(([name]) => name),
    breaches,
  );
  for (const [name, actor] of hosts) {
    const labels = actionsOf(actor).map(({ label }) => label);
    const seen = host[name];
    if (seen !== undefined) checkLabels(`host.${name}`, seen, labels, breaches);
  }
  const counting = guests.filter(([, actor]) => isBystander(actor)).map(([name]) => name);
  checkLabels("bystanders", bystanders, counting, breaches);
  if (vmm !== null && vmm.length === 0) breaches.push("the VMM's history is empty");
  if ((vmm === null) !== (guestKernel === null))
    breaches.push("a VMM without a guest kernel, or the reverse");
}

function checkFigures(evidence: Evidence, breaches: string[]): void {
  const { counts, trace, durationMs, exhaustiveness } = evidence;
  if (!Number.isFinite(durationMs) || durationMs < 0) breaches.push(`durationMs is ${durationMs}`);
  for (const [kind, count] of Object.entries(counts)) {
    if (!(eventKinds as readonly string[]).includes(kind))
      breaches.push(`counts has an unknown event ${kind}`);
    if (!Number.isSafeInteger(count) || count < 0) breaches.push(`counts.${kind} is ${count}`);
  }
  for (const [index, event] of trace.entries()) {
    if (!eventKinds.includes(event.kind)) breaches.push(`trace[${index}] is an unknown event ${event.kind}`);
    if (!Number.isFinite(event.atMs) || event.atMs < 0)
      breaches.push(`trace[${index}].atMs is ${event.atMs}`);
  }
  const amount = exhaustiveness.kind === "sampled" ? exhaustiveness.runs : exhaustiveness.states;
  if (!Number.isSafeInteger(amount) || amount < 1) breaches.push(`exhaustiveness counts ${amount}`);
}

/** Every breach of the contract in a piece of evidence, one sentence each. */
export function breachesOf(scenario: Scenario, evidence: Evidence): readonly string[] {
  const breaches: string[] = [];
  checkObservations(scenario, evidence, breaches);
  checkFigures(evidence, breaches);
  return breaches;
}

/** A failure with what to do about it, where the surroundings are its cause. */
function explained(result: RunResult): RunResult {
  if (result.kind !== "engine-error" && result.kind !== "timeout") return result;
  const lack = lackIn(result.message);
  return lack === null ? result : { ...result, message: problemText(lack) };
}

/** The result of a run under the contract: what is thrown, and every breach, becomes an engine error. */
export async function runChecked(
  name: string,
  scenario: Scenario,
  run: () => Promise<RunResult>,
): Promise<RunResult> {
  let result: RunResult;
  try {
    result = await run();
  } catch (error) {
    const message = errorText(error);
    return explained({ kind: "engine-error", message: `${name} threw: ${message}` });
  }
  if (result.kind !== "evidence") return explained(result);
  const breaches = breachesOf(scenario, result.evidence);
  if (breaches.length === 0) return result;
  return { kind: "engine-error", message: `${name} breaks its contract: ${breaches.join("; ")}` };
}

/** The engine, with every result checked. */
export function checkedEngine(engine: Engine): Engine {
  return {
    name: engine.name,
    describe: () => engine.describe(),
    available: () => engine.available(),
    supports: (...asked) => engine.supports(...asked),
    attest: () => engine.attest(),
    open: (context) => engine.open(context),
    run: (scenario, proposal, context) =>
      runChecked(engine.name, scenario, () => engine.run(scenario, proposal, context)),
    close: () => engine.close(),
  };
}

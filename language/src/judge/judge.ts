/**
 * The judge: one pure function from evidence to verdict. Nothing else decides "pass".
 *
 * Order: no evidence; the attestation (evidence from the wrong engine proves nothing); a capability that the scenario
 * needs; then what was seen against what is expected. A counterexample (fail) stands even where a witness is missing;
 * a missing witness blocks every verdict that rests on the run having meant something (pass, xfail, xpass).
 * A model's case is judged end by end: the gravest verdict stands.
 */
import { enablesApf } from "../axes.ts";
import type {
  Attestation,
  EngineName,
  EngineNature,
  Evidence,
  MachineName,
  Observations,
  RunResult,
} from "../evidence.ts";
import { matchesGlob } from "../glob.ts";
import { type ByStep, outcomeText, recordedStyle } from "../outcome.ts";
import type { Proposal } from "../proposal.ts";
import { witnessText } from "../scenario/format.ts";
import { undisturbedWord } from "../scenario/guest-verbs.ts";
import { accessesOf, actionsOf, guestActors, hostActors, usesMount } from "../scenario/labels.ts";
import { PAGE_BYTES } from "../scenario/limits.ts";
import type { Scenario, Witness } from "../scenario/scenario.ts";
import { severity, type Verdict } from "../verdict.ts";
import { accessText, type EventKind, hostResultText, vmmText } from "../vocabulary.ts";
import { type Erratum, type Expectation, type ExpectedOutcome, isAbout } from "./expectations.ts";

export type JudgeInput = {
  readonly scenario: Scenario;
  readonly proposal: Proposal;
  /** The engine that was asked for. */
  readonly engine: EngineName;
  readonly nature: EngineNature;
  /** The machine that was asked for. */
  readonly machine: MachineName;
  /** null: there is no expectation. */
  readonly expectation: Expectation | null;
  readonly errata: readonly Erratum[];
  readonly result: RunResult;
};

/** Stands for an actor's last access, or a host's last step, in expectations: one rule serves loads, stores and fetches. */
const LAST = "last";

/** The outcome of a step: its kind, and its text with figures. */
type SeenStep = { readonly kind: string; readonly text: string };

/** Neither an expectation nor a witness has this word. */
const MISSING: SeenStep = { kind: "missing", text: "missing" };

/**
 * Is it the word, with or without its figures? `value(0x5)` is `value` and `value(0x5)`, not `value(0x6)`.
 * `killed|not-reached`: either of them, where the order of two vCPUs decides.
 */
function isWord({ kind, text }: SeenStep, word: string): boolean {
  return word.split("|").some((one) => text === one || kind === one);
}

/** Differences between the machine that was asked for and the one that ran: another kernel, another boot, a VM or none. */
function machineProblems(asked: MachineName, { vm, kernel }: Attestation): readonly string[] {
  if (asked === "here") return vm === null ? [] : [`ran inside a VM with kernel ${vm.kernel}`];
  if (vm === null) return [`ran on kernel ${kernel} of the machine itself, not in a VM`];
  const problems: string[] = [];
  if (asked !== `kernel:${vm.kernel}`) problems.push(`ran on kernel ${vm.kernel}, not ${asked}`);
  if (vm.imageRelease !== null && vm.imageRelease !== kernel) {
    problems.push(`the kernel says that it is ${kernel}, its image is of ${vm.imageRelease}`);
  }
  if (!vm.commandLine.split(" ").some((word) => word.endsWith(`=${vm.bootId}`))) {
    problems.push(`the kernel's command line is not the one of this boot: ${vm.commandLine}`);
  }
  return problems;
}

/** QEMU's TCG: a VMM, and no KVM. */
function isEmulated({ vmm, runsKvm }: EngineNature): boolean {
  return vmm !== undefined && !runsKvm;
}

/** Differences between the VMM that was asked for and the one that ran, of a Linux guest. */
function vmmProblems({ scenario, nature }: JudgeInput, { guest }: Attestation): readonly string[] {
  const { qemu } = guest ?? {};
  if (nature.vmm === undefined) return qemu === undefined ? [] : ["ran in QEMU, which nobody asked for"];
  if (qemu === undefined) return ["no QEMU is attested"];
  const problems: string[] = [];
  const accelerator = nature.runsKvm ? "kvm" : "tcg";
  if (qemu.accelerator !== accelerator) {
    problems.push(`QEMU's accelerator was ${qemu.accelerator}, not ${accelerator}`);
  }
  if (scenario.layout === "dax-window" && qemu.daxWindowBytes === null) {
    problems.push("the guest has found no DAX window");
  }
  return problems;
}

/** All differences between the attestation and what was asked for. */
function attestationProblems(input: JudgeInput, attestation: Attestation): readonly string[] {
  const { scenario, proposal, engine, nature, machine } = input;
  const problems: string[] = [...machineProblems(machine, attestation), ...vmmProblems(input, attestation)];
  if (attestation.engine !== engine) problems.push(`ran on engine ${attestation.engine}, not ${engine}`);
  if (BigInt(attestation.pageSize) !== PAGE_BYTES) {
    problems.push(`page size ${attestation.pageSize}, not ${PAGE_BYTES}, which the offsets are written for`);
  }
  if (attestation.lapic !== proposal.lapic) {
    problems.push(`APIC in ${attestation.lapic ?? "nothing"}, not in ${proposal.lapic ?? "nothing"}`);
  }
  // Async page faults are KVM's.
  const wantsApf = enablesApf(proposal) && !isEmulated(nature);
  if (wantsApf !== (attestation.apfEnabled === true)) {
    problems.push(`async page faults are ${attestation.apfEnabled === true ? "on" : "off"} in the guest`);
  }
  // The server's own leases need the server, whether an actor goes through its mount or not.
  const wantsMount = usesMount(scenario) || proposal.server === "fuse-lease";
  // A model has neither mounts nor windows to attest.
  if (nature.isReal && wantsMount !== (attestation.transport !== null)) {
    problems.push(
      wantsMount ? "no FUSE mount was used" : `a mount (${attestation.transport}) nobody asked for`,
    );
  }
  if (nature.runsKvm) {
    if (attestation.kvmBackend === null) problems.push("no KVM backend is attested");
    const wantsWindow = scenario.layout === "dax-window";
    if (wantsWindow !== (attestation.windowBytes !== null)) {
      problems.push(wantsWindow ? "there was no DAX window" : "there was a DAX window nobody asked for");
    }
  }
  return problems;
}

/** Everything that was seen: `victim.load#2` -> `killed`. */
function seenSteps({ accesses, host }: Observations): ReadonlyMap<string, SeenStep> {
  const seen = new Map<string, SeenStep>();
  const add = <Word extends { readonly kind: string }>(
    steps: ByStep<Word>,
    text: (word: Word) => string,
  ): void => {
    for (const [actor, labels] of Object.entries(steps)) {
      for (const [label, word] of Object.entries(labels)) {
        seen.set(`${actor}.${label}`, { kind: word.kind, text: text(word) });
      }
    }
  };
  add(accesses, accessText);
  add(host, hostResultText);
  return seen;
}

/** The expected word for each access and host step, `last` and `crowd-*` resolved and the defaults filled in. */
function expectedWords(scenario: Scenario, outcome: ExpectedOutcome): Map<string, string> {
  const words = new Map<string, string>();
  const patterns = Object.entries(outcome.accesses).filter(([label]) => label.includes("*"));
  const wordOf = (label: string): string | undefined =>
    outcome.accesses[label] ?? patterns.find(([pattern]) => matchesGlob(pattern, label))?.[1];
  for (const [name, actor] of guestActors(scenario)) {
    const accesses = accessesOf(actor);
    for (const { label, step } of accesses)
      words.set(`${name}.${label}`, wordOf(`${name}.${label}`) ?? undisturbedWord(step));
    const last = wordOf(`${name}.${LAST}`);
    if (last !== undefined) words.set(`${name}.${accesses.at(-1)?.label}`, last);
  }
  for (const [name, actor] of hostActors(scenario)) {
    const labels = actionsOf(actor).map(({ label }) => label);
    for (const label of labels) {
      words.set(`${name}.${label}`, outcome.host[`${name}.${label}`] ?? "done");
    }
    const last = outcome.host[`${name}.${LAST}`];
    if (last !== undefined) words.set(`${name}.${labels.at(-1)}`, last);
  }
  return words;
}

function eventDeviations({ events }: ExpectedOutcome, { counts }: Evidence): readonly string[] {
  return Object.entries(events).flatMap(([kind, word]) => {
    const count = counts[kind as EventKind] ?? 0;
    const seen = count > 0 ? "seen" : "none";
    return seen === word ? [] : [`${count} events ${kind}, expected ${word === "seen" ? "some" : "none"}`];
  });
}

/** Where the end is a loop or another state, the loop may have ended by chance after it was seen: it comes before that state. */
function withoutEndedLoop(history: readonly string[], last: string | undefined): readonly string[] {
  const [before, end] = history.slice(-2);
  const ends = last?.split("|") ?? [];
  const isEndedLoop = before === "looping" && end !== undefined && end !== before;
  if (!isEndedLoop || !ends.includes(before) || !ends.includes(end)) return history;
  return [...history.slice(0, -2), end];
}

/** A model has the last state only. */
function isHistory(
  history: readonly string[] | null,
  whole: readonly string[] | null,
  { isReal }: EngineNature,
): boolean {
  if (history === null || whole === null) return history === whole;
  const expected = isReal ? whole : whole.slice(-1);
  const seen = withoutEndedLoop(history, expected.at(-1));
  return (
    seen.length === expected.length &&
    seen.every((state, index) => expected[index]?.split("|").includes(state))
  );
}

/** The differences of the evidence from the outcome: `victim.load#2 is hung, expected killed`. Empty: it is that outcome. */
function deviations(
  { scenario, nature }: JudgeInput,
  outcome: ExpectedOutcome,
  evidence: Evidence,
): readonly string[] {
  const list: string[] = [];
  const { vmm, bystanders } = evidence.observations;
  const history = vmm?.map(vmmText) ?? null;
  if (!isHistory(history, outcome.vmm ?? null, nature)) {
    list.push(`VMM ${history?.join(", ") ?? "absent"}, expected ${outcome.vmm?.join(", ") ?? "absent"}`);
  }
  const seen = seenSteps(evidence.observations);
  for (const [label, word] of expectedWords(scenario, outcome)) {
    const step = seen.get(label) ?? MISSING;
    if (!isWord(step, word)) list.push(`${label} is ${step.text}, expected ${word}`);
  }
  for (const [name, word] of Object.entries(outcome.bystanders)) {
    const text = bystanders[name] ?? "missing";
    if (text !== word) list.push(`${name} is ${text}, expected ${word}`);
  }
  // A model's events are those of one interleaving of many.
  if (nature.isReal) list.push(...eventDeviations(outcome, evidence));
  return list;
}

type Witnessed = {
  readonly steps: ReadonlyMap<string, SeenStep>;
  readonly evidence: Evidence;
  readonly nature: EngineNature;
};

function isSeen(witness: Witness, { steps, evidence, nature }: Witnessed): boolean {
  const { attestation, counts } = evidence;
  switch (witness.subject) {
    case "kvm":
      return String(attestation.capabilities[witness.label] ?? 0) === witness.is;
    case "guest":
      if (witness.label === "nmi") return ((counts.nmi ?? 0) > 0 ? "seen" : "none") === witness.is;
      // null is KVM without such an MSR, or no KVM: then nothing is known.
      return attestation.apfEnabled !== null && (attestation.apfEnabled ? "on" : "off") === witness.is;
    case "backing":
      // By construction in a model, whose pages begin on disk.
      if (!nature.isReal) return witness.is === "seen";
      return ((counts[witness.label as "swap-out" | "huge-page"] ?? 0) > 0 ? "seen" : "none") === witness.is;
    default:
      return isWord(steps.get(`${witness.subject}.${witness.label}`) ?? MISSING, witness.is);
  }
}

/** The witnesses that were not seen: what the run shows means nothing without them. */
export function missingWitnesses(
  scenario: Scenario,
  evidence: Evidence,
  nature: EngineNature,
): readonly string[] {
  const seen = { steps: seenSteps(evidence.observations), evidence, nature };
  return scenario.witness.filter((witness) => !isSeen(witness, seen)).map((witness) => witnessText(witness));
}

function isInForce(erratum: Erratum, { kvmBackend, kernel }: Attestation): boolean {
  const { when } = erratum;
  if (when.kvmBackend !== undefined && when.kvmBackend !== kvmBackend) return false;
  return when.kernel === undefined || kernel.startsWith(when.kernel);
}

/** Compares the observations with the main expectation and the errata. The caller checks witnesses. */
function compare(input: JudgeInput, expectation: Expectation, evidence: Evidence): Verdict {
  const { scenario, proposal, engine } = input;
  const main = deviations(input, expectation.outcome, evidence);
  const name = { scenario: scenario.id, proposal: proposal.id, engine };
  const inForce = input.errata.filter(
    (erratum) => isAbout(erratum, name) && isInForce(erratum, evidence.attestation),
  );
  if (main.length === 0) {
    const gone = inForce[0];
    if (gone === undefined) return { kind: "pass", reason: `as ${expectation.rule} expects` };
    const reason = `erratum ${gone.id} is in force here but is not seen: remove it`;
    return { kind: "xpass", reason, erratum: gone.id };
  }
  for (const erratum of inForce) {
    if (erratum.outcomes.some((outcome) => deviations(input, outcome, evidence).length === 0)) {
      return { kind: "xfail", reason: `${erratum.id}: ${erratum.reason}` };
    }
  }
  const last = evidence.observations.vmm?.at(-1);
  if (last !== undefined && expectation.better.includes(vmmText(last))) {
    const what = expectation.defect === null ? "" : ` (${expectation.defect.id} is not seen)`;
    return { kind: "xpass", reason: `better than ${expectation.rule} expects${what}: ${main.join("; ")}` };
  }
  return { kind: "fail", reason: `${expectation.rule}: ${main.join("; ")}` };
}

/** What one end of the case shows, against the expectation. */
function judgeEnd(input: JudgeInput, evidence: Evidence): Verdict {
  const { scenario, nature, expectation } = input;
  const missing = missingWitnesses(scenario, evidence, nature);
  const notSeen = missing.length === 0 ? [] : [`not seen: ${missing.join("; ")}`];
  if (expectation === null) {
    const seen = outcomeText(evidence.observations, recordedStyle);
    const none = `no expectation is written for this case (of yours: in the folder kinds of --scenarios DIR); seen: ${seen}`;
    return { kind: "inconclusive", cause: "vacuous", reason: [none, ...notSeen].join("; ") };
  }
  const verdict = compare(input, expectation, evidence);
  if (verdict.kind === "fail" || missing.length === 0) return verdict;
  return { kind: "inconclusive", cause: "vacuous", reason: notSeen.join("; ") };
}

/** In a model an NMI may also not come, and SIGKILL comes at any time: some ends are of another story. */
function hasOtherStories(scenario: Scenario): boolean {
  const steps = guestActors(scenario).flatMap(([, actor]) => actor.steps);
  return scenario.nmi !== undefined || steps.some(({ verb }) => verb === "kill");
}

/** The evidence of each end that tells the scenario's story. What ran once is one end. */
function endsOf({ scenario, nature }: JudgeInput, evidence: Evidence): readonly Evidence[] {
  if (evidence.ends.length === 0) return [evidence];
  const ends = evidence.ends.map(
    ({ observations, facts }): Evidence => ({
      ...evidence,
      observations,
      counts: { ...evidence.counts, nmi: facts.nmi ? 1 : 0 },
    }),
  );
  if (!hasOtherStories(scenario)) return ends;
  const witnessed = ends.filter((end) => missingWitnesses(scenario, end, nature).length === 0);
  return witnessed.length === 0 ? ends : witnessed;
}

function judgeEvidence(input: JudgeInput, evidence: Evidence): Verdict {
  const wrong = attestationProblems(input, evidence.attestation);
  if (wrong.length > 0) return { kind: "inconclusive", cause: "wrong-engine", reason: wrong.join("; ") };
  const lacking = input.scenario.needs.filter((name) => (evidence.attestation.capabilities[name] ?? 0) === 0);
  if (lacking.length > 0) return { kind: "skip", reason: `this KVM has no ${lacking.join(", ")}` };
  const verdicts = endsOf(input, evidence).map((end) => judgeEnd(input, end));
  const gravest = verdicts.reduce((worst, one) => (severity(one.kind) > severity(worst.kind) ? one : worst));
  if (verdicts.length === 1) return gravest;
  const alike = verdicts.filter(({ kind }) => kind === gravest.kind).length;
  return { ...gravest, reason: `${gravest.reason} (${alike} of ${verdicts.length} ways to end)` };
}

/** The verdict of one case. */
export function judge(input: JudgeInput): Verdict {
  const { result } = input;
  switch (result.kind) {
    case "timeout":
      return { kind: "inconclusive", cause: "timeout", reason: result.message };
    case "engine-error":
      return { kind: "inconclusive", cause: "engine-error", reason: result.message };
    case "busy":
      return { kind: "inconclusive", cause: "busy", reason: result.message };
    case "emulator-defect":
      return { kind: "inconclusive", cause: "emulator-defect", reason: result.message };
    case "unsupported":
      return { kind: "skip", reason: result.message };
    case "kernel-crash":
      return { kind: "fail", reason: result.message };
    case "evidence":
      return judgeEvidence(input, result.evidence);
  }
}

/**
 * From a scenario file's text to scenarios, with every limit checked. Shape by zod, steps by their own grammar,
 * then the rules that need the whole: windows, signals, witnesses. Reports all problems of a file at once.
 */
import { z } from "zod";
import { isGlob, matchesGlob } from "../glob.ts";
import { issueText } from "../issue-text.ts";
import { readJsonSource } from "../json-source.ts";
import { proposals } from "../presets.ts";
import { propertyIds } from "../properties.ts";
import { parseSelector, selectedIds } from "../selector.ts";
import { checkScenario } from "./check.ts";
import { expand, type Json } from "./expand.ts";
import { parseFault } from "./faults.ts";
import { accessBytes, type GuestStep, isAccess } from "./guest-verbs.ts";
import { scenarioHash } from "./hash.ts";
import {
  COPIES_MAX,
  FAULTS_MAX,
  FILE_TEXT_MAX,
  ID_LENGTH_MAX,
  STEPS_MAX,
  VCPUS_MAX,
  WINDOW_MAPPINGS_MAX,
} from "./limits.ts";
import { parseNumber } from "./number.ts";
import { Problems, pathText, ScenarioError } from "./problem.ts";
import {
  type Actor,
  backingKinds,
  clientCaches,
  contents,
  layouts,
  nmiVariants,
  type Scenario,
  scenarioSigbusReactions,
  type WindowMapping,
  type Witness,
} from "./scenario.ts";
import { parseGuestStep, parseHostStep, parseVmmStep } from "./steps.ts";
import { parseUserfaultRule, type UserfaultHandler, userFaultModes } from "./userfault.ts";
import { ACTOR_NAME } from "./words.ts";

const ID = /^[a-z0-9][a-z0-9.-]*(?:\/[a-z0-9][a-z0-9.-]*)*$/;

const bytes = z.union([z.string(), z.number()]).transform((value, context): bigint => {
  const number = parseNumber(String(value));
  if (number !== null) return number;
  context.addIssue({
    code: "custom",
    message: `${JSON.stringify(value)} is not a size (4096, "0x1000" or "4KiB")`,
  });
  return z.NEVER;
});
const stepTexts = z.array(z.string()).min(1).max(STEPS_MAX, `more steps than the limit ${STEPS_MAX}`);
const vcpu = z
  .int()
  .min(0)
  .max(VCPUS_MAX - 1, `vCPUs are numbered from 0 to ${VCPUS_MAX - 1}`)
  .optional();
/** The actor as often as that, each with its accesses so much further behind: `name-1`, `name-2` .. */
const copies = z.strictObject({
  count: z.int().min(1).max(COPIES_MAX, `more copies than the limit ${COPIES_MAX}`),
  apart: bytes,
});
const word = z.string().regex(/^[a-z][a-z-]*$/);

const actorShape = z.discriminatedUnion("in", [
  z.strictObject({
    in: z.literal("guest-task"),
    cpu: vcpu,
    interrupts: z.literal("off").optional(),
    nested: z.literal(true).optional(),
    onSigbus: z.enum(scenarioSigbusReactions).optional(),
    copies: copies.optional(),
    steps: stepTexts,
  }),
  z.strictObject({ in: z.literal("guest-kernel"), cpu: vcpu, steps: stepTexts }),
  z.strictObject({
    in: z.literal("host-process"),
    through: z.enum(["file", "mount"]).default("file"),
    steps: stepTexts,
  }),
  z.strictObject({ in: z.literal("vmm"), steps: stepTexts }),
]);
type ActorShape = z.infer<typeof actorShape>;

const scenarioShape = z.strictObject({
  id: z.string().max(ID_LENGTH_MAX).regex(ID, "an id is words of a-z, 0-9, - and ., with / between them"),
  purpose: z.string().min(1).max(300),
  layout: z.enum(layouts).default("dax-window"),
  backing: z.strictObject({
    kind: z.enum(backingKinds).default("host-file"),
    size: bytes,
    content: z.enum(contents).default("pattern"),
    cache: z.enum(clientCaches).optional(),
    readonly: z.literal(true).optional(),
    handler: z
      .strictObject({
        faults: z.enum(userFaultModes).default("all"),
        prefault: bytes.default(0n),
        rules: z.array(z.string()).max(FAULTS_MAX, `more rules than the limit ${FAULTS_MAX}`).default([]),
      })
      .optional(),
    mount: z
      .strictObject({
        faults: z.array(z.string()).max(FAULTS_MAX, `more rules than the limit ${FAULTS_MAX}`).default([]),
      })
      .optional(),
  }),
  nmi: z.enum(nmiVariants).optional(),
  window: z
    .array(z.strictObject({ file: bytes, at: bytes, length: bytes }))
    .max(WINDOW_MAPPINGS_MAX)
    .optional(),
  actors: z.record(
    z.string().regex(ACTOR_NAME, "an actor's name is a-z, 0-9 and -, at most 16 characters"),
    actorShape,
  ),
  witness: z.array(z.string()),
  properties: z.array(word),
  proposals: z.array(z.string()).min(1).nullable().default(null),
  needs: z
    .array(z.string().regex(/^KVM_CAP_[A-Z0-9_]+$/, "the name of a capability as in <linux/kvm.h>"))
    .default([]),
});

type ScenarioShape = z.infer<typeof scenarioShape>;

function parseActor(shape: ActorShape, at: string, problems: Problems): Actor {
  function steps<Step>(
    parse: (text: string, at: string, problems: Problems) => Step | null,
  ): readonly Step[] {
    const list: Step[] = [];
    for (const [index, text] of shape.steps.entries()) {
      const step = parse(text, `${at}.steps[${index}]`, problems);
      if (step !== null) list.push(step);
    }
    return list;
  }
  switch (shape.in) {
    case "guest-task":
      return {
        in: shape.in,
        ...(shape.cpu === undefined ? {} : { cpu: shape.cpu }),
        ...(shape.interrupts === undefined ? {} : { interrupts: shape.interrupts }),
        ...(shape.nested === undefined ? {} : { nested: shape.nested }),
        ...(shape.onSigbus === undefined ? {} : { onSigbus: shape.onSigbus }),
        steps: steps(parseGuestStep),
      };
    case "guest-kernel":
      return {
        in: shape.in,
        ...(shape.cpu === undefined ? {} : { cpu: shape.cpu }),
        steps: steps(parseGuestStep),
      };
    case "host-process":
      return { in: shape.in, through: shape.through, steps: steps(parseHostStep) };
    case "vmm":
      return { in: shape.in, steps: steps(parseVmmStep) };
  }
}

function parseHandler(
  { rules, ...rest }: NonNullable<ScenarioShape["backing"]["handler"]>,
  problems: Problems,
): UserfaultHandler {
  const parsed = rules.flatMap(
    (text, index) => parseUserfaultRule(text, `backing.handler.rules[${index}]`, problems) ?? [],
  );
  return { ...rest, rules: parsed };
}

function parseBacking(shape: ScenarioShape["backing"], problems: Problems): Scenario["backing"] {
  const { mount, cache, readonly, handler, ...always } = shape;
  // An empty member is left out: a scenario's hash is of the members that it has.
  const rest = {
    ...always,
    ...(cache === undefined ? {} : { cache }),
    ...(readonly === undefined ? {} : { readonly }),
    ...(handler === undefined ? {} : { handler: parseHandler(handler, problems) }),
  };
  if (mount === undefined) return rest;
  const faults = mount.faults.flatMap(
    (text, index) => parseFault(text, `backing.mount.faults[${index}]`, problems) ?? [],
  );
  return { ...rest, mount: { faults } };
}

/** An actor under its name; or its copies, numbered from 1, the accesses of each moved on. */
function copiesOf(
  name: string,
  actor: Actor,
  wanted: { readonly count: number; readonly apart: bigint } | undefined,
): readonly (readonly [string, Actor])[] {
  if (wanted === undefined || actor.in !== "guest-task") return [[name, actor]];
  return Array.from({ length: wanted.count }, (_, index) => {
    const moved = (step: GuestStep): GuestStep =>
      isAccess(step) && accessBytes(step) > 0
        ? { ...step, offset: step.offset + BigInt(index) * wanted.apart }
        : step;
    return [`${name}-${index + 1}`, { ...actor, steps: actor.steps.map(moved) }] as const;
  });
}

function parseWitness(text: string, at: string, problems: Problems): Witness | null {
  const match = /^([a-z][a-z0-9-]*)\.(\S+) is (\S+)$/.exec(text);
  if (match === null) {
    problems.add(at, `${JSON.stringify(text)} is not of the form "actor.label is word"`);
    return null;
  }
  return { subject: match[1] ?? "", label: match[2] ?? "", is: match[3] ?? "" };
}

function checkName(
  what: string,
  name: string,
  known: readonly string[],
  at: string,
  problems: Problems,
): void {
  if (known.includes(name)) return;
  problems.add(at, `unknown ${what} ${JSON.stringify(name)}; known: ${known.join(", ")}`);
}

/** The proposals that a scenario is about: ids, and for `@loops` the presets with that answer, in their order. */
function readProposals(
  texts: readonly string[],
  known: readonly string[],
  problems: Problems,
): readonly string[] {
  const ids = new Set<string>();
  for (const [index, text] of texts.entries()) {
    const at = `proposals[${index}]`;
    if (!text.includes("@") && !isGlob(text)) {
      checkName("proposal", text, known, at, problems);
      ids.add(text);
      continue;
    }
    const selector = parseSelector(text);
    if (typeof selector === "string") problems.add(at, selector);
    else if (selector.all) problems.add(at, "leave proposals out for all of them");
    else {
      const selected = selectedIds(selector);
      for (const id of [...selector.ids, ...selector.except]) {
        if (!known.some((one) => matchesGlob(id, one))) checkName("proposal", id, known, at, problems);
      }
      if (selected.length === 0) problems.add(at, `${JSON.stringify(text)} stands for no proposal`);
      for (const id of selected) ids.add(id);
    }
  }
  return [...ids];
}

/** One expanded scenario; null if anything is wrong with it, which is then in `problems`. */
function parseOne(json: Json, presets: readonly string[], problems: Problems): Scenario | null {
  const before = problems.list.length;
  const parsed = scenarioShape.safeParse(json);
  if (!parsed.success) {
    for (const issue of parsed.error.issues) {
      problems.add(pathText(issue.path), issueText(issue, scenarioShape, json));
    }
    return null;
  }
  const shape = parsed.data;
  const actors: Record<string, Actor> = {};
  for (const [name, actor] of Object.entries(shape.actors)) {
    const one = parseActor(actor, `actors.${name}`, problems);
    const wanted = actor.in === "guest-task" ? actor.copies : undefined;
    for (const [copy, body] of copiesOf(name, one, wanted)) actors[copy] = body;
  }
  const witness: Witness[] = [];
  for (const [index, text] of shape.witness.entries()) {
    const parsedWitness = parseWitness(text, `witness[${index}]`, problems);
    if (parsedWitness !== null) witness.push(parsedWitness);
  }
  for (const [index, name] of shape.properties.entries()) {
    checkName("property", name, propertyIds, `properties[${index}]`, problems);
  }
  const { window, backing, nmi, ...rest } = shape;
  const wholeFile: WindowMapping[] =
    shape.layout === "dax-window" ? [{ fileOffset: 0n, at: 0n, length: shape.backing.size }] : [];
  const scenario = {
    ...rest,
    proposals: rest.proposals === null ? null : readProposals(rest.proposals, presets, problems),
    ...(nmi === undefined ? {} : { nmi }),
    backing: parseBacking(backing, problems),
    window: window?.map(({ file, at, length }) => ({ fileOffset: file, at, length })) ?? wholeFile,
    actors,
    witness,
  };
  // What follows counts steps and signals: with steps missing it would only report consequences.
  if (problems.list.length === before) checkScenario(scenario, problems);
  return problems.list.length === before ? { ...scenario, hash: scenarioHash(scenario) } : null;
}

const presetIds: readonly string[] = proposals.map(({ id }) => id);

/**
 * All scenarios of one file. Throws a ScenarioError that lists everything wrong.
 * @param file Its name, for messages.
 * @param known Ids of the proposals that scenarios may be about.
 */
export function parseScenarios(
  text: string,
  file: string,
  known: readonly string[] = presetIds,
): readonly Scenario[] {
  const problems = new Problems();
  if (text.length > FILE_TEXT_MAX) {
    problems.add("", `${text.length} characters are more than the limit ${FILE_TEXT_MAX}`);
    throw new ScenarioError(file, problems.list);
  }
  const source = readJsonSource(text);
  if (source.kind === "error") {
    problems.addSyntax(source);
    throw new ScenarioError(file, problems.list);
  }
  if (source.duplicates.length > 0) {
    const twice = source.duplicates.map(({ path, line }) => ({
      at: pathText(path),
      message: "twice in this object",
      line,
    }));
    throw new ScenarioError(file, twice);
  }
  const scenarios: Scenario[] = [];
  const expanded = expand(source.value as Json, problems);
  for (const one of expanded) {
    const found = new Problems();
    const scenario = parseOne(one, known, found);
    if (scenario !== null) scenarios.push(scenario);
    const id = (one as { readonly id?: unknown } | null)?.id;
    const which = expanded.length > 1 ? `(${typeof id === "string" ? id : JSON.stringify(id)}) ` : "";
    for (const problem of found.list) problems.add(problem.at, which + problem.message);
  }
  if (problems.list.length > 0) {
    // Lines are looked up only now: most files are right.
    const located = problems.list.map((problem) => ({ ...problem, line: source.lineOf(problem.at) }));
    throw new ScenarioError(file, located);
  }
  return scenarios;
}

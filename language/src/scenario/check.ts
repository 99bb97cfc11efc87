/** The rules that need the whole scenario: sizes, windows, signals, witnesses. Each message names value and limit. */
import { type AccessKind, accessKinds, hostResultKinds, splitWord } from "../vocabulary.ts";
import {
  type AccessStep,
  accessBytes,
  guestVerbs,
  isAccess,
  isWrite,
  observesNothing,
  onlyReads,
  touchOf,
} from "./guest-verbs.ts";
import { actOf, isAction, isDeviceAccess, isVmmAction } from "./host-verbs.ts";
import {
  accessesOf,
  actionsOf,
  cpuOf,
  type GuestActor,
  guestActors,
  hostActors,
  signalNames,
  untilOf,
} from "./labels.ts";
import {
  FILE_BYTES_MAX,
  GUEST_TASKS_MAX,
  HOST_ACTORS_MAX,
  PAGE_BYTES,
  SIGNALS_MAX,
  WINDOW_BYTES_MAX,
} from "./limits.ts";
import { hex, sizeText } from "./number.ts";
import type { Problems } from "./problem.ts";
import {
  type Actor,
  type BackingKind,
  isPrivate,
  pageBytesOf,
  type Scenario,
  STUCK,
  type WindowMapping,
  type Witness,
} from "./scenario.ts";
import { mappingAt, mappingsOf } from "./window.ts";

type Unhashed = Omit<Scenario, "hash">;

function checkBacking(scenario: Unhashed, problems: Problems): void {
  const { kind, size } = scenario.backing;
  const page = pageBytesOf(kind);
  const smallest = kind === "tmpfs-full" || kind === "hugetlb" ? 2n * page : PAGE_BYTES;
  if (size > FILE_BYTES_MAX) {
    problems.add("backing.size", `${sizeText(size)} is greater than the limit ${sizeText(FILE_BYTES_MAX)}`);
  } else if (size < smallest) {
    problems.add(
      "backing.size",
      `${sizeText(size)} is less than ${sizeText(smallest)}, the least for ${kind}`,
    );
  } else if (size % page !== 0n) {
    problems.add("backing.size", `${hex(size)} is not a multiple of ${page}`);
  }
  checkHandler(scenario, problems);
  if (isPrivate(kind) || kind === "hugetlb") {
    if (scenario.layout !== "nvdimm") {
      problems.add(
        "backing.kind",
        `${kind} needs layout nvdimm: in layout ${scenario.layout} ${whyNvdimm(kind)}`,
      );
    }
    if (scenario.backing.mount !== undefined) {
      problems.add("backing.mount", `${kind} takes none: a file server's client has other pages`);
    }
  }
  if (kind === "guest-memfd" && scenario.backing.readonly === true) {
    problems.add("backing.readonly", "a guest-memfd is not mapped for the guest: it cannot be read-only");
  }
  for (const [index, { at }] of (scenario.backing.mount?.faults ?? []).entries()) {
    if (at === null || BigInt(at) < size) continue;
    problems.add(
      `backing.mount.faults[${index}]`,
      `at ${hex(BigInt(at))} is beyond the file's ${sizeText(size)}`,
    );
  }
}

function whyNvdimm(kind: BackingKind): string {
  if (kind === "hugetlb") return "no mapping is of whole huge pages";
  return kind === "guest-memfd" ? "the memslot is mappings of a file" : "no mapping is private";
}

function checkHandler({ backing }: Unhashed, problems: Problems): void {
  const { kind, handler, size } = backing;
  if ((kind === "userfaultfd") !== (handler !== undefined)) {
    problems.add(
      "backing.handler",
      kind === "userfaultfd"
        ? "is missing: a userfaultfd needs one"
        : `${kind} has none: it is of a userfaultfd`,
    );
  }
  if (handler === undefined) return;
  if (handler.prefault > size || handler.prefault % PAGE_BYTES !== 0n) {
    problems.add(
      "backing.handler.prefault",
      `${hex(handler.prefault)} is no number of whole pages of the file`,
    );
  }
  for (const [index, { at }] of handler.rules.entries()) {
    if (at < size) continue;
    problems.add(`backing.handler.rules[${index}]`, `at ${hex(at)} is beyond the file's ${sizeText(size)}`);
  }
}

function checkMapping(mapping: WindowMapping, at: string, fileBytes: bigint, problems: Problems): void {
  for (const [name, value] of [
    ["file", mapping.fileOffset],
    ["at", mapping.at],
    ["length", mapping.length],
  ] as const) {
    if (value % PAGE_BYTES !== 0n)
      problems.add(`${at}.${name}`, `${hex(value)} is not a multiple of ${PAGE_BYTES}`);
  }
  if (mapping.length === 0n) problems.add(`${at}.length`, "0 maps nothing");
  if (mapping.at + mapping.length > WINDOW_BYTES_MAX) {
    problems.add(
      at,
      `at ${hex(mapping.at)} + length ${hex(mapping.length)} is beyond the window's limit ${sizeText(WINDOW_BYTES_MAX)}`,
    );
  }
  if (mapping.fileOffset + mapping.length > fileBytes) {
    problems.add(
      at,
      `file ${hex(mapping.fileOffset)} + length ${hex(mapping.length)} is beyond the file's ${sizeText(fileBytes)}`,
    );
  }
}

function checkWindow(scenario: Unhashed, problems: Problems): void {
  const { layout, window, backing } = scenario;
  if (layout !== "dax-window") {
    if (window.length > 0)
      problems.add("window", `layout ${layout} has the whole file: leave the window out`);
    return;
  }
  if (window.length === 0) problems.add("window", "maps nothing");
  for (const [index, mapping] of window.entries()) {
    checkMapping(mapping, `window[${index}]`, backing.size, problems);
    for (const [other, { at, length }] of window.slice(0, index).entries()) {
      if (mapping.at < at + length && at < mapping.at + mapping.length) {
        problems.add(
          `window[${index}]`,
          `${hex(mapping.at)} to ${hex(mapping.at + mapping.length)} overlaps window[${other}], ${hex(at)} to ${hex(at + length)}`,
        );
      }
    }
  }
}

function checkGuestSteps(scenario: Unhashed, name: string, actor: GuestActor, problems: Problems): void {
  const mapped = mappingsOf(scenario)
    .map(({ at, length }) => `${hex(at)} to ${hex(at + length)}`)
    .join(", ");
  for (const [index, step] of actor.steps.entries()) {
    const at = `actors.${name}.steps[${index}]`;
    if (guestVerbs[step.verb].endless && index !== actor.steps.length - 1) {
      problems.add(at, `${step.verb} never ends: it must be the last step`);
    }
    if ("actor" in step) checkKill(scenario, name, actor, step.actor, at, problems);
    if (!isAccess(step)) continue;
    if (touchOf(step).kind === "fetch" && scenario.backing.content !== "code") {
      problems.add(at, `${step.verb} needs backing.content "code", not "${scenario.backing.content}"`);
    }
    if (accessBytes(step) > 0 && mappingAt(scenario, step.offset, accessBytes(step)) === null) {
      problems.add(
        at,
        `offset ${hex(step.offset)} + ${accessBytes(step)} bytes is outside what is mapped (${mapped})`,
      );
    }
  }
}

function checkKill(
  scenario: Unhashed,
  name: string,
  killer: GuestActor,
  victim: string,
  at: string,
  problems: Problems,
): void {
  const found = guestActors(scenario).find(([other]) => other === victim);
  if (found === undefined || victim === name) {
    problems.add(at, `kills ${victim}, which is no other guest actor`);
  } else if (cpuOf(found[1]) !== cpuOf(killer)) {
    problems.add(at, `kills ${victim} on vCPU ${cpuOf(found[1])} from vCPU ${cpuOf(killer)}`);
  }
}

function checkActors(scenario: Unhashed, problems: Problems): void {
  const guests = guestActors(scenario);
  const hosts = hostActors(scenario);
  const vmms = Object.entries(scenario.actors).filter(([, actor]) => actor.in === "vmm");
  if (guests.length > GUEST_TASKS_MAX) {
    problems.add("actors", `${guests.length} guest tasks are more than the limit ${GUEST_TASKS_MAX}`);
  }
  if (hosts.length > HOST_ACTORS_MAX) {
    problems.add("actors", `${hosts.length} host processes are more than the limit ${HOST_ACTORS_MAX}`);
  }
  if (vmms.length > 1) problems.add("actors", `${vmms.length} vmm actors are more than the limit 1`);
  for (const name of ["kvm", "guest", "backing"]) {
    if (name in scenario.actors) problems.add(`actors.${name}`, "this name is reserved for witnesses");
  }
  const vcpus = new Set(guests.map(([, actor]) => cpuOf(actor)));
  if (vcpus.size > 0 && vcpus.size <= Math.max(...vcpus)) {
    problems.add("actors", `no guest actor runs on vCPU 0, but one on vCPU ${Math.max(...vcpus)}`);
  }
  const touches = guests.reduce((count, [, actor]) => count + accessesOf(actor).length, 0);
  if (touches === 0) problems.add("actors", "nobody in the guest touches the window");
  const reading = guests.flatMap(([, { steps }]) => steps).find(({ verb }) => onlyReads(verb));
  const writing = guests.flatMap(([, actor]) => accessesOf(actor)).find(({ step }) => isWrite(step));
  if (reading !== undefined && writing !== undefined) {
    problems.add(
      "actors",
      `${writing.step.verb} needs a mapping for writing, ${reading.verb} one for reading only`,
    );
  }
  for (const [name, actor] of guests) checkGuestSteps(scenario, name, actor, problems);
}

function checkSignals(scenario: Unhashed, problems: Problems): void {
  const names = signalNames(scenario).filter((name) => name !== STUCK);
  if (names.length > SIGNALS_MAX) {
    problems.add("actors", `${names.length} signal names are more than the limit ${SIGNALS_MAX}`);
  }
  const raised = new Set<string>();
  const steps: { actor: Actor; verb: string; name: string; at: string }[] = [];
  for (const [actorName, actor] of Object.entries(scenario.actors)) {
    for (const [index, step] of actor.steps.entries()) {
      const at = `actors.${actorName}.steps[${index}]`;
      const until = untilOf(step);
      if (until !== null) steps.push({ actor, verb: "await", name: until, at });
      if (step.verb !== "signal" && step.verb !== "await") continue;
      steps.push({ actor, verb: step.verb, name: step.name, at });
      if (step.verb === "signal") raised.add(step.name);
    }
  }
  for (const { actor, verb, name, at } of steps) {
    const inGuest = actor.in === "guest-task" || actor.in === "guest-kernel";
    if (name === STUCK && verb === "signal") {
      problems.add(at, `"${STUCK}" is raised by the engine only`);
    } else if (name === STUCK && inGuest) {
      problems.add(at, `"${STUCK}" can be awaited by the host and the vmm only: the guest is what is stuck`);
    } else if (name !== STUCK && verb === "await" && !raised.has(name)) {
      problems.add(
        at,
        `awaits "${name}", which nobody signals (signalled: ${[...raised].join(", ") || "nothing"})`,
      );
    }
  }
}

/** Is it one of the kinds, with or without its particulars? */
function wordProblem(is: string, kinds: readonly string[]): string | null {
  const [kind] = splitWord(is);
  return kinds.includes(kind) ? null : `${is} is not one of ${kinds.join(", ")}`;
}

/** What an access can be observed to do: either it observes bytes (a store, those that it wrote), or that it was done. */
function kindsOf(step: AccessStep): readonly string[] {
  const isDone = observesNothing(step);
  return accessKinds.filter((kind) => (isContent(kind) ? !isDone : kind !== "done" || isDone));
}

const isContent = (kind: AccessKind): boolean => kind === "value" || kind === "zero" || kind === "stale";

/** The valid words for a witness of this subject; null if the witness is valid. */
function witnessProblem(scenario: Unhashed, { subject, label, is }: Witness): string | null {
  if (subject === "kvm") {
    if (!/^KVM_CAP_[A-Z0-9_]+$/.test(label)) return `${label} is not the name of a KVM capability`;
    return /^[0-9]+$/.test(is) ? null : `${is} is not a number`;
  }
  if (subject === "guest") {
    if (label === "nmi") return ["seen", "none"].includes(is) ? null : `nmi is seen or none, not ${is}`;
    if (label !== "apf") return `of the guest only "apf" and "nmi" can be witnessed, not ${label}`;
    return ["on", "off"].includes(is) ? null : `apf is on or off, not ${is}`;
  }
  if (subject === "backing") {
    if (label !== "swap-out" && label !== "huge-page")
      return `of the backing only "swap-out" and "huge-page" can be witnessed, not ${label}`;
    return ["seen", "none"].includes(is) ? null : `${label} is seen or none, not ${is}`;
  }
  const actor = scenario.actors[subject];
  if (actor === undefined) return `there is no actor ${subject}`;
  switch (actor.in) {
    case "vmm":
      return "a vmm actor has nothing to witness";
    case "host-process": {
      const labels = actionsOf(actor).map((action) => action.label);
      if (!labels.includes(label)) return `${subject} has no ${label} (has ${labels.join(", ")})`;
      return wordProblem(is, hostResultKinds);
    }
    case "guest-task":
    case "guest-kernel": {
      const accesses = accessesOf(actor);
      const access = accesses.find((one) => one.label === label);
      if (access !== undefined) return wordProblem(is, kindsOf(access.step));
      return `${subject} has no ${label} (has ${accesses.map((one) => one.label).join(", ")})`;
    }
  }
}

/** What is done to a server needs one whose files are the guest's memory. */
function checkServer(scenario: Unhashed, problems: Problems): void {
  if (scenario.backing.mount !== undefined) return;
  for (const [name, actor] of hostActors(scenario)) {
    for (const [index, step] of actor.steps.entries()) {
      if (!isAction(step) || actOf(step).server === undefined) continue;
      problems.add(
        `actors.${name}.steps[${index}]`,
        `${step.verb} needs backing.mount: no file server is behind what is mapped`,
      );
    }
  }
}

/** What the VMM does to its mapping is done to whole pages that are mapped; a device may touch any of their bytes. */
function checkVmmActions(scenario: Unhashed, problems: Problems): void {
  for (const [name, actor] of Object.entries(scenario.actors)) {
    for (const [index, step] of actor.in === "vmm" ? actor.steps.entries() : []) {
      if (!isVmmAction(step)) continue;
      const at = `actors.${name}.steps[${index}]`;
      const length = "length" in step ? Number(step.length) : "size" in step ? step.size : Number(PAGE_BYTES);
      const isInPages =
        !isDeviceAccess(step) && (step.offset % PAGE_BYTES !== 0n || BigInt(length) % PAGE_BYTES !== 0n);
      if (isInPages) problems.add(at, `${step.verb} is of whole pages of ${PAGE_BYTES} bytes`);
      if (mappingAt(scenario, step.offset, length) === null) {
        problems.add(at, `offset ${hex(step.offset)} + ${length} bytes is outside what is mapped`);
      }
      if (step.verb === "map" && scenario.backing.kind === "userfaultfd") {
        problems.add(at, "map: no file is behind memory that a handler fills");
      }
    }
  }
}

/** A descriptor has to be opened before it can be used. */
function checkDescriptors(scenario: Unhashed, problems: Problems): void {
  for (const [name, actor] of hostActors(scenario)) {
    let isOpen = false;
    for (const [index, step] of actor.steps.entries()) {
      if (!isAction(step)) continue;
      const { descriptor } = actOf(step);
      if (descriptor === "opens") isOpen = true;
      if (descriptor !== "uses" || isOpen) continue;
      problems.add(
        `actors.${name}.steps[${index}]`,
        `${step.verb} needs an open before it: whose descriptor?`,
      );
    }
  }
}

/** Adds everything that is wrong with a scenario whose shape and steps are right. */
export function checkScenario(scenario: Unhashed, problems: Problems): void {
  checkBacking(scenario, problems);
  checkWindow(scenario, problems);
  checkActors(scenario, problems);
  checkSignals(scenario, problems);
  checkDescriptors(scenario, problems);
  checkServer(scenario, problems);
  checkVmmActions(scenario, problems);
  for (const [index, witness] of scenario.witness.entries()) {
    const problem = witnessProblem(scenario, witness);
    if (problem !== null) problems.add(`witness[${index}]`, problem);
  }
}

/** A scenario as its file writes it: the reverse of `parse.ts`. Used by recorded runs, reports and reproductions. */
import { faultText } from "./faults.ts";
import { hex } from "./number.ts";
import type { Actor, GuestStep, HostStep, Scenario, VmmStep, Witness } from "./scenario.ts";

/** As people write it: `truncate 0`, not `truncate 0x0`. */
function numberText(value: bigint): string {
  return value < 10n ? value.toString() : hex(value);
}

function untilText({ until }: { readonly until?: string }): string {
  return until === undefined ? "" : ` until ${until}`;
}

/** `load 0x1000 8`. */
export function stepText(step: GuestStep | HostStep | VmmStep): string {
  switch (step.verb) {
    case "load":
      return `load ${numberText(step.offset)} ${step.size}${untilText(step)}`;
    case "atomic":
    case "copy-from":
      return `${step.verb} ${numberText(step.offset)} ${step.size}`;
    case "store":
      return `store ${numberText(step.offset)} ${step.size} ${numberText(step.value)}${untilText(step)}`;
    case "copy-to":
      return `copy-to ${numberText(step.offset)} ${step.size} ${numberText(step.value)}`;
    case "push":
      return `push ${numberText(step.offset)} ${numberText(step.value)}`;
    case "kill":
      return `kill ${step.actor}`;
    case "fetch":
      return `fetch ${numberText(step.offset)}`;
    case "kernel-read":
      return [`kernel-read ${numberText(step.offset)} ${step.size}`, ...step.options].join(" ");
    case "kernel-write":
      return [
        `kernel-write ${numberText(step.offset)} ${step.size} ${numberText(step.value)}`,
        ...step.options,
      ].join(" ");
    case "truncate":
      return [`truncate ${numberText(step.size)}`, ...(step.options ?? [])].join(" ");
    case "open-truncate":
    case "ftruncate":
      return `${step.verb} ${numberText(step.size)}`;
    case "punch":
    case "collapse":
      return `${step.verb} ${numberText(step.offset)} ${numberText(step.length)}`;
    case "map-store":
      return `map-store ${numberText(step.offset)} ${numberText(step.value)}`;
    case "signal":
    case "await":
      return `${step.verb} ${step.name}`;
    case "rename-over":
    case "unlink":
    case "open":
    case "open-trunc":
    case "open-read":
    case "resume":
    case "count":
      return step.verb;
  }
}

export function witnessText({ subject, label, is }: Witness): string {
  return `${subject}.${label} is ${is}`;
}

function actorSource(actor: Actor): object {
  return { ...actor, steps: actor.steps.map(stepText) };
}

function backingSource({ mount, ...backing }: Scenario["backing"]): object {
  const rest = { ...backing, size: hex(backing.size) };
  return mount === undefined ? rest : { ...rest, mount: { faults: mount.faults.map(faultText) } };
}

/** JSON that `parseScenarios` reads back as this scenario. Nothing is left to defaults. */
export function scenarioSource(scenario: Scenario): Readonly<Record<string, unknown>> {
  const { id, purpose, layout, backing, window, nmi, actors, witness, properties, proposals, needs } =
    scenario;
  return {
    id,
    purpose,
    layout,
    backing: backingSource(backing),
    ...(layout === "nvdimm"
      ? {}
      : {
          window: window.map(({ fileOffset, at, length }) => ({
            file: hex(fileOffset),
            at: hex(at),
            length: hex(length),
          })),
        }),
    ...(nmi === undefined ? {} : { nmi }),
    actors: Object.fromEntries(Object.entries(actors).map(([name, actor]) => [name, actorSource(actor)])),
    witness: witness.map(witnessText),
    properties,
    proposals,
    needs,
  };
}

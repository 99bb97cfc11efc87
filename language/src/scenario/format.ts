/** A scenario as its file writes it: the reverse of `parse.ts`. Used by recorded runs, reports and reproductions. */
import { faultText } from "./faults.ts";
import { hex } from "./number.ts";
import type { Actor, Scenario, Witness } from "./scenario.ts";
import { stepText } from "./steps.ts";
import { type UserfaultHandler, userfaultRuleText } from "./userfault.ts";

export function witnessText({ subject, label, is }: Witness): string {
  return `${subject}.${label} is ${is}`;
}

function actorSource(actor: Actor): object {
  return { ...actor, steps: actor.steps.map(stepText) };
}

function handlerSource({ prefault, rules, ...rest }: UserfaultHandler): object {
  return { ...rest, prefault: hex(prefault), rules: rules.map(userfaultRuleText) };
}

function backingSource({ mount, handler, ...backing }: Scenario["backing"]): object {
  const rest = {
    ...backing,
    size: hex(backing.size),
    ...(handler === undefined ? {} : { handler: handlerSource(handler) }),
  };
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
    ...(layout === "dax-window"
      ? {
          window: window.map(({ fileOffset, at, length }) => ({
            file: hex(fileOffset),
            at: hex(at),
            length: hex(length),
          })),
        }
      : {}),
    ...(nmi === undefined ? {} : { nmi }),
    actors: Object.fromEntries(Object.entries(actors).map(([name, actor]) => [name, actorSource(actor)])),
    witness: witness.map(witnessText),
    properties,
    proposals,
    needs,
  };
}

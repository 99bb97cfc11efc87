/** A sealed copy is another file: a host's change of the original does not concern the guest's mapping. */
import {
  actOf,
  hostActors,
  isAction,
  opensEarly,
  type Scenario,
  type ServerPart,
} from "../../../language/src/index.ts";

/** Why there is nothing to see with a sealed copy, or null. */
export function sealedReason(scenario: Scenario, server: ServerPart): string | null {
  if (server !== "sealed") return null;
  const other = hostActors(scenario).some(
    ([, actor]) =>
      actor.through === "mount" ||
      opensEarly(actor) ||
      actor.steps.some((step) => isAction(step) && actOf(step).onName),
  );
  return other ? "the guest has a sealed copy mapped: what happens to the original does not reach it" : null;
}

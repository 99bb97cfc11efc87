/** A sealed copy is another file: what a host does to the original is no attempt on what the guest has mapped. */
import { hostActors, type Scenario, type ServerPart } from "../../../language/src/index.ts";

/** Why there is nothing to see with a sealed copy, or null. */
export function sealedReason(scenario: Scenario, server: ServerPart): string | null {
  if (server !== "sealed") return null;
  const other = hostActors(scenario).some(
    ([, { through, steps }]) =>
      through === "mount" ||
      steps[0]?.verb === "open" ||
      steps.some(({ verb }) => verb === "rename-over" || verb === "unlink"),
  );
  return other ? "the guest has a sealed copy mapped: what happens to the original does not reach it" : null;
}

/** Cases of Linux guests, of this repository's scenarios, as recordings have them. */
import type { LinuxCase } from "../../src/compare/linux-runs.ts";
import { loadScenarios } from "../../src/fixtures.ts";

const scenarios = loadScenarios();

/** A case whose last access of the victim ended so. */
export function recordedCase(
  scenario: string,
  proposal: string,
  {
    last,
    vmm = "running",
    lastWords = null,
    bystanders = {},
  }: { last: string; vmm?: string; lastWords?: string | null; bystanders?: Readonly<Record<string, string>> },
): LinuxCase {
  const found = scenarios.find(({ id }) => id === scenario);
  if (found === undefined) throw new Error(`there is no scenario ${scenario}`);
  const access = scenario.replace(/^.*\/|-after.*|-of.*/g, "");
  const isFirst = found.actors.victim?.steps[0]?.verb === "await";
  const label = `victim.${access}#${access === "load" && !isFirst ? 2 : 1}`;
  const first = isFirst ? {} : { "victim.load#1": "value" };
  return {
    scenario,
    scenarioHash: found.hash,
    proposal,
    words: {
      steps: { ...first, [label]: last, "host.truncate#1": "done" },
      bystanders,
      vmm,
      guestKernel: "alive",
    },
    lastWords,
  };
}

import { describe, expect, it } from "vitest";
import { scenarioSource } from "../../src/scenario/format.ts";
import { loadScenarios } from "../../src/scenario/load.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";

describe("scenarioSource", () => {
  it.each(loadScenarios().map((scenario) => [scenario.id, scenario] as const))(
    "%s reads back as itself",
    (id, scenario) => {
      const about = [...(scenario.proposals ?? [])];
      expect(parseScenarios(JSON.stringify(scenarioSource(scenario)), id, about)).toEqual([scenario]);
    },
  );
});

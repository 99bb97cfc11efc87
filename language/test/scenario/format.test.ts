import { describe, expect, it } from "vitest";
import { scenarioSource } from "../../src/scenario/format.ts";
import { parseScenarios } from "../../src/scenario/parse.ts";
import { loadScenarios } from "../support/fixtures.ts";

describe("scenarioSource", () => {
  it.each(loadScenarios().map((scenario) => [scenario.id, scenario] as const))(
    "%s reads back as itself",
    (id, scenario) => {
      const about = [...(scenario.proposals ?? [])];
      expect(parseScenarios(JSON.stringify(scenarioSource(scenario)), id, about)).toEqual([scenario]);
    },
  );
});

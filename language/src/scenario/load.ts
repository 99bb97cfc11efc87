/** Reads scenarios from files. */
import { readdirSync } from "node:fs";
import { join } from "node:path";
import { InputError, readInput } from "../input-file.ts";
import { FILE_TEXT_MAX } from "./limits.ts";
import { parseScenarios } from "./parse.ts";
import { ScenarioError } from "./problem.ts";
import type { Scenario } from "./scenario.ts";

/** The text of a file of scenarios or proposals. Throws a ScenarioError. */
export function readText(path: string): string {
  try {
    return readInput(path, FILE_TEXT_MAX);
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new ScenarioError(path, [{ at: "", message: error.message, line: error.line }]);
  }
}

/**
 * The scenarios of one file.
 * @param known Ids of the proposals that they may be about; the presets if not given.
 * Throws a ScenarioError.
 */
export function loadScenarioFile(path: string, known?: readonly string[]): readonly Scenario[] {
  return parseScenarios(readText(path), path, known);
}

/** All scenarios of a folder, in the order of file names; ids must differ. */
export function loadScenarioFolder(folder: string, known?: readonly string[]): readonly Scenario[] {
  const scenarios: Scenario[] = [];
  const fileOf = new Map<string, string>();
  const files = readdirSync(folder).filter((name) => name.endsWith(".json"));
  for (const name of files.sort()) {
    for (const scenario of loadScenarioFile(join(folder, name), known)) {
      const first = fileOf.get(scenario.id);
      if (first !== undefined) {
        throw new ScenarioError(name, [
          { at: "id", message: `${JSON.stringify(scenario.id)} is also in ${first}`, line: null },
        ]);
      }
      fileOf.set(scenario.id, name);
      scenarios.push(scenario);
    }
  }
  return scenarios;
}

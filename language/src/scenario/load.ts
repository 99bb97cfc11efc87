/** Reads scenarios from files. */
import { join } from "node:path";
import { InputError, jsonFilesOf, readInput } from "../input-file.ts";
import { FILE_TEXT_MAX, SCENARIOS_MAX } from "./limits.ts";
import { parseScenarios } from "./parse.ts";
import { ScenarioError } from "./problem.ts";
import type { Scenario } from "./scenario.ts";

/** What `read` returns; an InputError becomes a ScenarioError with its place. */
function inputOf<Value>(path: string, read: () => Value): Value {
  try {
    return read();
  } catch (error) {
    if (!(error instanceof InputError)) throw error;
    throw new ScenarioError(path, [{ at: "", message: error.message, line: error.line }]);
  }
}

/** The text of a file of scenarios or proposals. Throws a ScenarioError. */
export function readText(path: string): string {
  return inputOf(path, () => readInput(path, FILE_TEXT_MAX));
}

/** The names of a folder's files of scenarios or proposals. Throws a ScenarioError. */
export function filesOf(folder: string): readonly string[] {
  return inputOf(folder, () => jsonFilesOf(folder));
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
  for (const name of filesOf(folder)) {
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
    if (scenarios.length > SCENARIOS_MAX) {
      const message = `${scenarios.length} scenarios up to ${name} are more than the limit ${SCENARIOS_MAX}`;
      throw new ScenarioError(folder, [{ at: "", message, line: null }]);
    }
  }
  return scenarios;
}

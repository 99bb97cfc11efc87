/** Reads scenarios from files. */
import { readdirSync, readFileSync, statSync } from "node:fs";
import { join } from "node:path";
import { FILE_TEXT_MAX } from "./limits.ts";
import { parseScenarios } from "./parse.ts";
import { ScenarioError } from "./problem.ts";
import type { Scenario } from "./scenario.ts";

/**
 * The scenarios of one file.
 * @param known Ids of the proposals that they may be about; the presets if not given.
 * Throws a ScenarioError; I/O errors pass as they are.
 */
export function loadScenarioFile(path: string, known?: readonly string[]): readonly Scenario[] {
  const { size } = statSync(path);
  if (size > FILE_TEXT_MAX) {
    throw new ScenarioError(path, [
      { at: "", message: `${size} bytes are more than the limit ${FILE_TEXT_MAX}`, line: null },
    ]);
  }
  return parseScenarios(readFileSync(path, "utf8"), path, known);
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

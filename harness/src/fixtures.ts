/** The data that comes with the package: scenarios, expectations, errata, documented cells. */
import type { DocumentedCell, Erratum, ExpectationTable, Scenario } from "../../language/src/index.ts";
import * as read from "../../language/src/read.ts";
import { packagePath } from "./paths.ts";

export function loadScenarios(): readonly Scenario[] {
  return read.loadScenarioFolder(packagePath("fixtures/scenarios"));
}

export function loadExpectations(): ExpectationTable {
  return read.loadExpectations(packagePath("fixtures/kinds"));
}

export function loadErrata(): readonly Erratum[] {
  return read.loadErrata(packagePath("fixtures/errata.json"));
}

export function loadDocumented(): readonly DocumentedCell[] {
  return read.loadDocumented(packagePath("fixtures/documented.json"));
}

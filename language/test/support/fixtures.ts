/** The project's own scenarios and expectations, which tests of the language hold its rules against. */
import { fileURLToPath } from "node:url";
import type { ExpectationTable } from "../../src/judge/expectation-table.ts";
import type { DocumentedCell, Erratum } from "../../src/judge/expectations.ts";
import * as read from "../../src/read.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";

const fixtures = fileURLToPath(new URL("../../../fixtures/", import.meta.url));

export const loadScenarios = (): readonly Scenario[] => read.loadScenarioFolder(`${fixtures}scenarios`);
export const loadExpectations = (): ExpectationTable => read.loadExpectations(`${fixtures}kinds`);
export const loadErrata = (): readonly Erratum[] => read.loadErrata(`${fixtures}errata.json`);
export const loadDocumented = (): readonly DocumentedCell[] =>
  read.loadDocumented(`${fixtures}documented.json`);

/** The project's own scenarios and expectations, which tests of the language hold its rules against. */
import { fileURLToPath } from "node:url";
import type { DocumentedCell, Erratum } from "../../src/judge/expectations.ts";
import type { Kinds } from "../../src/judge/kinds.ts";
import * as read from "../../src/read.ts";
import type { Scenario } from "../../src/scenario/scenario.ts";

const fixtures = fileURLToPath(new URL("../../../fixtures/", import.meta.url));

export const loadScenarios = (): readonly Scenario[] => read.loadScenarioFolder(`${fixtures}scenarios`);
export const loadKinds = (): Kinds => read.loadKinds(`${fixtures}kinds`);
export const loadErrata = (): readonly Erratum[] => read.loadErrata(`${fixtures}errata.json`);
export const loadDocumented = (): readonly DocumentedCell[] =>
  read.loadDocumented(`${fixtures}documented.json`);

/** The data that comes with the package: scenarios, expectations, errata, documented cells. Each is read once. */
import type { DocumentedCell, Erratum, ExpectationTable, Scenario } from "../../language/src/index.ts";
import * as read from "../../language/src/read.ts";
import { packagePath } from "./paths.ts";

/** A file of the package does not change while a program runs. */
function once<Value>(load: () => Value): () => Value {
  let loaded: { readonly value: Value } | null = null;
  return () => {
    loaded ??= { value: load() };
    return loaded.value;
  };
}

export const loadScenarios: () => readonly Scenario[] = once(() =>
  read.loadScenarioFolder(packagePath("fixtures/scenarios")),
);

export const loadExpectations: () => ExpectationTable = once(() =>
  read.loadExpectations(packagePath("fixtures/kinds")),
);

/** Of Linux guests, where they differ from those. */
export const loadLinuxExceptions: () => ExpectationTable = once(() =>
  read.loadExpectations(packagePath("fixtures/kinds-linux-guest")),
);

/** Of Linux guests in QEMU, where they differ from both. */
export const loadQemuExceptions: () => ExpectationTable = once(() =>
  read.loadExpectations(packagePath("fixtures/kinds-linux-qemu")),
);

export const loadErrata: () => readonly Erratum[] = once(() =>
  read.loadErrata(packagePath("fixtures/errata.json")),
);

export const loadDocumented: () => readonly DocumentedCell[] = once(() =>
  read.loadDocumented(packagePath("fixtures/documented.json")),
);

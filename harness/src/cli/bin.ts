#!/usr/bin/env node
/**
 * The program `daxfault`: loads the command line, and says why where it cannot be loaded. With too few descriptors Node
 * cannot open all of its modules, and what is not installed or not built is not there.
 */
import { errorStack, errorText } from "../error-text.ts";
import { ownDescriptorsProblem, problemText, surroundingsText } from "../surroundings.ts";

/** sysexits.h: EX_USAGE, EX_SOFTWARE. The table of codes is one of the modules that may be missing. */
const EXIT_USAGE = 64;
const EXIT_DEFECT = 70;

type Failure = { readonly text: string; readonly code: number };

function failureOf(error: unknown): Failure {
  const surroundings = surroundingsText(error);
  if (surroundings !== null) return { text: surroundings, code: EXIT_USAGE };
  if ((error as NodeJS.ErrnoException).code === "ERR_MODULE_NOT_FOUND") {
    return { text: `${errorText(error)}. Next: npm install, or scripts/bootstrap`, code: EXIT_USAGE };
  }
  return { text: `this is a defect of daxfault: ${errorStack(error)}`, code: EXIT_DEFECT };
}

async function load(): Promise<Failure | null> {
  const problem = ownDescriptorsProblem();
  if (problem !== null) return { text: problemText(problem), code: EXIT_USAGE };
  try {
    await import("./main.ts");
    return null;
  } catch (error) {
    return failureOf(error);
  }
}

const failure = await load();
if (failure !== null) {
  process.stderr.write(`daxfault: ${failure.text}\n`);
  process.exitCode = failure.code;
}

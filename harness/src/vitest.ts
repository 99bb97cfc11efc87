/**
 * For a project that keeps its own cases in its own tests: `import { expectVerdict } from "daxfault/vitest"`.
 * Uses nothing of vitest but what the test's context offers, so that any version of it will do; `vitest --shard`
 * divides such tests like all others.
 */

import type { VerdictKind } from "../../language/src/index.ts";
import { seenLines } from "./report/story.ts";
import { caseTitle } from "./report/text.ts";
import { replayCommand } from "./run/plan.ts";
import type { CaseResult } from "./run/result.ts";
import { type CaseSpec, runCase } from "./run-case.ts";

export type { CaseResult } from "./run/result.ts";
export type { CaseSpec } from "./run-case.ts";

/** The part of vitest's test context that is used. */
export type TestContext = { skip(note?: string): unknown; readonly signal?: AbortSignal };

/** The case did not come out as the test expects: what was seen, and how to run it again. */
export class VerdictError extends Error {
  override readonly name = "VerdictError";
  readonly result: CaseResult;

  constructor(result: CaseResult, wanted: readonly VerdictKind[]) {
    const { planned, verdict } = result;
    const seen =
      result.result?.kind === "evidence" ? seenLines(planned.scenario, result.result.evidence) : [];
    super(
      [
        `${caseTitle(result)} is ${verdict.kind}, not ${wanted.join(" or ")}: ${verdict.reason}`,
        ...seen.map((line) => `  ${line}`),
        `  ${replayCommand(planned)}`,
      ].join("\n"),
    );
    this.result = result;
  }
}

/**
 * Runs the case and insists on its verdict. Where the case cannot run on this machine the test is skipped with the
 * reason, if its context is given; without it a skip is an error like any other unexpected verdict.
 *
 * `test("our VMM stops", (context) => expectVerdict({ scenario: "load-after-truncate", proposal: "efault-exit", engine: "kvm" }, "pass", context))`
 */
export async function expectVerdict(
  spec: CaseSpec,
  wanted: VerdictKind | readonly VerdictKind[] = "pass",
  context?: TestContext,
): Promise<CaseResult> {
  const kinds: readonly VerdictKind[] = typeof wanted === "string" ? [wanted] : wanted;
  const signal = spec.signal ?? context?.signal;
  const result = await runCase(signal === undefined ? spec : { ...spec, signal });
  const { verdict } = result;
  if (kinds.includes(verdict.kind)) return result;
  if (verdict.kind === "skip" && context !== undefined) {
    context.skip(verdict.reason);
    return result;
  }
  throw new VerdictError(result, kinds);
}

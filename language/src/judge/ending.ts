/**
 * Endings: the ways in which a case ended, as properties and the judge look at them. A real run has one, a model one for
 * each outcome that some interleaving has. Pure.
 */
import type { EngineNature, Evidence, Observations } from "../evidence.ts";
import type { Outcome } from "../outcome.ts";

export type Ending = {
  readonly outcome: Outcome;
  /**
   * Where KVM_RUN left the vCPU when it gave up: at the access that failed, or elsewhere (no access of a task is known to
   * be under way there). null: it did not give up.
   */
  readonly exitAt: "access" | "elsewhere" | null;
  /** An access met a lost page that was still mapped. null: not recorded. */
  readonly metLostPage: boolean | null;
  /** A guard took the mapping away. */
  readonly wasRecalled: boolean;
  /** The NMI of the case came. */
  readonly nmi: boolean;
  /** The longest call of a process of the host, in milliseconds; null: not measured. */
  readonly hostMs: number | null;
  /** The way to it in the model, as `daxfault explore --replay` takes it; null: it happened. */
  readonly token: string | null;
};

/** A place is known where KVM_RUN left the vCPU at an access of the guest. Models have no addresses. */
function exitPlace({ vmm }: Observations, { isReal }: EngineNature): Ending["exitAt"] {
  const stop = vmm?.find((state) => state.kind === "stopped");
  if (stop === undefined) return null;
  return stop.at === null && isReal ? "elsewhere" : "access";
}

/** The one ending of what ran once. */
function onlyEnding({ observations, counts, trace }: Evidence, nature: EngineNature): Ending {
  const calls = trace.flatMap(({ tookMs }) => (tookMs === undefined ? [] : [tookMs]));
  return {
    outcome: observations,
    exitAt: exitPlace(observations, nature),
    metLostPage: null,
    wasRecalled: trace.some(({ kind, actor }) => kind === "lease-release" && actor === "guard"),
    nmi: (counts.nmi ?? 0) > 0,
    hostMs: calls.length === 0 ? null : Math.max(...calls),
    token: null,
  };
}

/** At least one. */
export function endingsOf(evidence: Evidence, nature: EngineNature): readonly Ending[] {
  if (evidence.ends.length === 0) return [onlyEnding(evidence, nature)];
  return evidence.ends.map(({ observations, facts, token }): Ending => {
    const exitAt = exitPlace(observations, nature);
    return {
      outcome: observations,
      exitAt: exitAt !== null && facts.exitElsewhere ? "elsewhere" : exitAt,
      metLostPage: facts.metLostPage,
      wasRecalled: false,
      nmi: facts.nmi,
      hostMs: null,
      token,
    };
  });
}

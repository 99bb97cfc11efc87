/** How long a page may take: an access that has waited longer waits for ever. */
import { allAccesses, type Scenario } from "../../../language/src/index.ts";

/** How long a READ may take beyond the delay that a scenario asks for; measured in tens of milliseconds, under emulation too. */
const IO_PATIENCE_MS = 2000;

/** How long an access may wait for delays that the scenario asks of its file server: for its own, and behind all others. */
export function delaysMs(scenario: Scenario): number {
  const delays = (scenario.backing.mount?.faults ?? []).map(({ action }) =>
    action.kind === "delay" ? action.ms : 0,
  );
  return allAccesses(scenario).length * Math.max(0, ...delays);
}

/**
 * Why the end of the patience proves nothing: the file server, which would have answered, had no processor for so long
 * that the access may only have waited for that. null: it had.
 */
export function patienceDoubt(serverHeldUpMs: number, patienceMs: number): string | null {
  if (serverHeldUpMs * 2 < patienceMs) return null;
  return (
    "the machine was busy: whether an access waits for ever is not known, for the file server waited for a processor " +
    `for ${Math.round(serverHeldUpMs)} ms`
  );
}

/** Of the host setup. */
type Held = { heldUp(): Promise<string | null>; serverHeldUpMs(): number };

type Waited = {
  /** An access has not come back, and nothing but the clock says that it never will. */
  readonly isHungByTime: boolean;
  readonly patienceMs: number;
};

/**
 * Why a case that has ended proves nothing, on a busy machine; null: it does. Of an access that hangs by the clock: was the
 * file server there to answer it?
 */
export async function busyReason(setup: Held, { isHungByTime, patienceMs }: Waited): Promise<string | null> {
  const heldUp = await setup.heldUp();
  return heldUp ?? (isHungByTime ? patienceDoubt(setup.serverHeldUpMs(), patienceMs) : null);
}

/** @param slowness `CaseContext.slowness` */
export function ioPatienceMs(scenario: Scenario, slowness: number): number {
  return IO_PATIENCE_MS * slowness + delaysMs(scenario);
}

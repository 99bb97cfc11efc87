/**
 * Whether the server of a scenario's mount is there to answer for a page: by what the host does to the server, and what
 * is known of the order. What rules make of single requests is in `losses.ts`.
 */

import { accessBytes, isAccess } from "./guest-verbs.ts";
import { actOf, isAction, type ServerChange } from "./host-verbs.ts";
import { guestActors, hostActors } from "./labels.ts";
import { PAGE_BYTES } from "./limits.ts";
import { isBefore, type StepAt } from "./order.ts";
import type { Scenario } from "./scenario.ts";
import { mappingAt } from "./window.ts";

/** `answered`: at once, or once the server goes on. `failed`: by the end of the connection. `unanswered`: nothing comes. */
export type Served = "answered" | "failed" | "unanswered" | "unknown";

type Parts = Pick<Scenario, "actors" | "backing" | "layout" | "window">;

/** What the host does to the server, in the order of the scenario. */
function changesOf(scenario: Pick<Scenario, "actors">): readonly (readonly [StepAt, ServerChange])[] {
  return hostActors(scenario).flatMap(([actor, { steps }]) =>
    steps.flatMap((step, index) => {
      const change = isAction(step) ? actOf(step).server : undefined;
      return change === undefined ? [] : [[{ actor, index }, change] as const];
    }),
  );
}

/** Does the host do that to the server at any time? */
export function changesServer(scenario: Pick<Scenario, "actors">, change?: ServerChange): boolean {
  return changesOf(scenario).some(([, one]) => change === undefined || one === change);
}

const after: Readonly<Record<ServerChange, Served>> = {
  dies: "failed",
  stops: "unanswered",
  "goes-on": "answered",
};

/** What a request that this step makes comes to. */
function servedAt(scenario: Pick<Scenario, "actors">, at: StepAt): Served {
  let served: Served = "answered";
  for (const [changeAt, change] of changesOf(scenario)) {
    if (isBefore(scenario, changeAt, at)) {
      // A server that is dead stays so.
      if (served !== "failed") served = after[change];
      continue;
    }
    if (isBefore(scenario, at, changeAt) && change !== "goes-on") continue;
    // At any time, or later: what goes on answers what has waited.
    if (change === "goes-on") served = served === "unanswered" ? "answered" : served;
    else return "unknown";
  }
  return served;
}

/** The steps of the guest that touch the page of that offset of the file. */
function touchesOf(scenario: Parts, fileOffset: bigint): readonly StepAt[] {
  const page = fileOffset / PAGE_BYTES;
  return guestActors(scenario).flatMap(([actor, { steps }]) =>
    steps.flatMap((step, index) => {
      if (!isAccess(step)) return [];
      const length = Math.max(1, accessBytes(step));
      const mapping = mappingAt(scenario, step.offset, length);
      if (mapping === null) return [];
      const first = mapping.fileOffset + (step.offset - mapping.at);
      const last = first + BigInt(length) - 1n;
      return first / PAGE_BYTES <= page && page <= last / PAGE_BYTES ? [{ actor, index }] : [];
    }),
  );
}

/** What the READ of the page comes to. The one that is answered puts it into the client's page cache, where it stays. */
export function servedPage(scenario: Parts, fileOffset: bigint): Served {
  if (scenario.backing.mount === undefined || !changesServer(scenario)) return "answered";
  const touches = touchesOf(scenario, fileOffset).map((at) => ({ at, served: servedAt(scenario, at) }));
  const first = touches.find(
    ({ at, served }) =>
      served === "answered" && touches.every((other) => other.at === at || isBefore(scenario, at, other.at)),
  );
  if (first !== undefined) return "answered";
  const [served, ...others] = new Set(touches.map((touch) => touch.served));
  return others.length > 0 ? "unknown" : (served ?? "answered");
}

/** Is every READ answered, if with an error? */
export function isIoAnswered(scenario: Pick<Scenario, "actors" | "backing">): boolean {
  const hangs = (scenario.backing.mount?.faults ?? []).some(({ action }) => action.kind === "hang");
  const isSilent = (scenario.backing.handler?.rules ?? []).some(
    ({ action }) => action.kind === "hang" || action.kind === "die",
  );
  return !hangs && !isSilent && !changesServer(scenario, "stops");
}

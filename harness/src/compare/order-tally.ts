/** The second half of `daxfault compare`: is the order of the kernel's tracepoints one that the model has? */

import type { Attestation, KvmTrace, Proposal, Scenario } from "../../../language/src/index.ts";
import type { CompareLine } from "../cli/lines.ts";
import type { Backend } from "../engines/model/translate.ts";
import { type Order, orderOf } from "./order.ts";
import { Reasons } from "./reasons.ts";

export type Traced = { readonly attestation: Attestation; readonly kvmTrace: KvmTrace };

type Divergent = Order & { readonly kind: "diverges" };

export class OrderTally {
  followed = 0;
  /** Events of those that were followed. */
  events = 0;
  different = 0;
  /** Why others were not compared. */
  readonly reasons: Reasons = new Reasons();

  add(order: Order): void {
    if (order.kind === "none") this.reasons.add(order.reason);
    else if (order.kind === "diverges") this.different++;
    else {
      this.followed++;
      this.events += order.events;
    }
  }

  /** null if nothing had tracepoints. */
  text(): string | null {
    const { followed, events, different } = this;
    const lines = this.reasons.lines();
    if (followed + different + lines.length === 0) return null;
    return [
      `${followed} traces of KVM's tracepoints (${events} events) go through the model in their order, ${different} do not.`,
      ...(lines.length === 0 ? [] : ["Not compared, because", ...lines]),
    ].join("\n");
  }
}

/** Only the TDP MMU says what it maps; a shadow MMU, or the older one for NPT and EPT, does not. */
export function tellsMappings({ kvmParameters }: Attestation): boolean {
  return kvmParameters["kvm.tdp_mmu"] === "Y";
}

export function recordedOrder(
  scenario: Scenario,
  proposal: Proposal,
  backend: Backend,
  { attestation, kvmTrace }: Traced,
): Order {
  return orderOf(scenario, proposal, backend, kvmTrace, { tellsMappings: tellsMappings(attestation) });
}

const linesOf = (trace: KvmTrace): readonly string[] => (trace.kind === "trace" ? trace.lines : []);

export function orderLine(
  id: { readonly scenario: string; readonly proposal: string; readonly engine: string },
  trace: KvmTrace,
  { line, observed, instead }: Divergent,
  replay: string | null,
): CompareLine {
  return { type: "order", ...id, line: linesOf(trace)[line] ?? null, observed, instead, replay };
}

/** Lines before the one that no path of the model has. */
const CONTEXT_LINES = 5;

/** The trace up to the first difference, and what the model shows in its place. */
export function orderText(trace: KvmTrace, order: Divergent): string {
  const { line, observed, instead } = order;
  const lines = linesOf(trace);
  return [
    ...lines.slice(Math.max(0, line - CONTEXT_LINES), line).map((text) => `    ${text}`),
    `  > ${lines[line] ?? "the end of the trace"}`,
    `  first difference at line ${line + 1}: the kernel passed ${observed};`,
    `  the model, after the same beginning: ${instead.length === 0 ? "nothing any more" : instead.join("; ")}`,
  ].join("\n");
}

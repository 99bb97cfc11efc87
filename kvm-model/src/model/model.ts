/** The full model of one case: initial state and the table of all actions, put together from the parts. */
import { type Action, type Model, tableModel } from "../explore/model.ts";
import { apfActions, isWorker, readyActor } from "./apf.ts";
import type { ModelCase } from "./case.ts";
import { type Context, makeContext, TOKEN_ALL, type Token } from "./fields.ts";
import { guestActions } from "./guest/guest.ts";
import { schedulerActor } from "./guest/scheduler.ts";
import { hostActions } from "./host.ts";
import { INTERFERENCE, interferenceActions } from "./interference.ts";
import { kvmActions } from "./kvm.ts";
import { Machine } from "./machine.ts";
import { MEMORY, memoryActions } from "./memory-error.ts";
import { vmmActions } from "./vmm.ts";

export type GuestModel = { readonly model: Model; readonly ctx: Context };

function initial(m: Machine): void {
  m.bytes.fill(0);
  m.fileSize = m.pages.length;
  m.guestFileSize = m.pages.length;
  for (const page of m.pages) page.cache = page.start === "resident" ? "resident" : "absent";
  m.hasNmiLeft = m.case.nmi !== "off";
  for (const vcpu of m.vcpus) vcpu.task = null;
  let token = 1;
  for (const task of m.tasks) {
    if (task.startsAsleep) {
      task.state = "sleeping";
      task.begin();
      task.token = token++ as Token;
    } else if (task.steps.length === 0) {
      task.state = "done";
    }
  }
  if (m.case.wakeAll) wakeAll(m);
}

/** kvm_async_pf_wakeup_all(): an entry that is done from the start. */
function wakeAll(m: Machine): void {
  const [work] = m.works;
  const [vcpu] = m.vcpus;
  if (work === undefined || vcpu === undefined) return;
  work.finish();
  work.token = TOKEN_ALL;
  vcpu.hasReadyRequest = true;
}

/** NMIs, kills, the scrubber and interference may never come: nothing makes them fair. */
const UNFAIR = ["nmi", "kill", MEMORY, INTERFERENCE];

/** With slow I/O the worker is done only where nothing else can happen, or once a bystander has run. */
function withSlowIo(m: Machine, actions: readonly Action[]): readonly Action[] {
  if (!m.case.slowIo) return actions;
  const others = actions.filter(({ actor }) => !isWorker(actor) && !UNFAIR.includes(actor));
  return actions.map((action) =>
    isWorker(action.actor)
      ? {
          ...action,
          guard: (state) =>
            action.guard(state) && (m.hasMark("ran-during-io") || !others.some(({ guard }) => guard(state))),
        }
      : action,
  );
}

export function guestModel(modelCase: ModelCase): GuestModel {
  const ctx = makeContext(modelCase);
  const m = new Machine(ctx);
  const model = tableModel({
    name: modelCase.name,
    layout: ctx.layout,
    actions: withSlowIo(m, [
      ...hostActions(m),
      ...kvmActions(m),
      ...apfActions(m),
      ...vmmActions(m),
      ...guestActions(m),
      ...memoryActions(m),
      ...interferenceActions(m),
    ]),
    unfairActors: UNFAIR,
    // Interrupts (timer, virtio queue) are latched in the local APIC, requests in vcpu->requests: both are taken at the
    // next entry into the guest that allows it.
    stronglyFairActors: ["guest-driver", ...m.tasks.map(schedulerActor), ...m.vcpus.map(readyActor)],
    initial: (state) => initial(m.bind(state)),
    bind: (state, events) => m.bind(state, events),
  });
  return { model, ctx };
}

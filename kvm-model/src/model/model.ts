/** The full model of one case: initial state and the table of all actions, put together from the parts. */
import { type Model, tableModel } from "../explore/model.ts";
import { apfActions, readyActor } from "./apf.ts";
import type { ModelCase } from "./case.ts";
import { CACHE, type Context, IDLE, makeContext, TASK, TOKEN_ALL, WORK } from "./fields.ts";
import { guestActions } from "./guest.ts";
import { hostActions } from "./host.ts";
import { INTERFERENCE, interferenceActions } from "./interference.ts";
import { kvmActions } from "./kvm.ts";
import { vmmActions } from "./vmm.ts";

export type GuestModel = { readonly model: Model; readonly ctx: Context };

function initial(ctx: Context, s: Uint8Array): void {
  const { f } = ctx;
  const c = ctx.case;
  s.fill(0);
  s[f.size] = ctx.pages;
  s[f.guestSize] = ctx.pages;
  for (const [page, start] of c.pages.entries()) {
    s[f.cache + page] = start === "resident" ? CACHE.resident : CACHE.absent;
  }
  s[f.nmiLeft] = c.nmi === "off" ? 0 : 1;
  for (let v = 0; v < ctx.vcpus; v++) s[f.vTask + v] = IDLE;
  let token = 1;
  for (const [t, task] of c.tasks.entries()) {
    if (task.asleep === true) {
      s[f.tState + t] = TASK.sleeping;
      s[f.tToken + t] = token++;
    } else if (task.steps.length === 0) {
      s[f.tState + t] = TASK.done;
    }
  }
  if (!c.wakeAll) return;
  // kvm_async_pf_wakeup_all(): an entry that is done from the start.
  s[f.wState] = WORK.done;
  s[f.wToken] = TOKEN_ALL;
  s[f.vReadyRequest] = 1;
}

/** NMIs, kills and interference may never come: nothing makes them fair. */
const UNFAIR = ["nmi", "kill", INTERFERENCE];

export function guestModel(modelCase: ModelCase): GuestModel {
  const ctx = makeContext(modelCase);
  const actions = [
    ...hostActions(ctx),
    ...kvmActions(ctx),
    ...apfActions(ctx),
    ...vmmActions(ctx),
    ...guestActions(ctx),
    ...interferenceActions(ctx),
  ];
  const model = tableModel({
    name: modelCase.name,
    layout: ctx.layout,
    actions,
    unfairActors: UNFAIR,
    // Interrupts (timer, virtio queue) are latched in the local APIC, requests in vcpu->requests: both are taken at the
    // next entry into the guest that allows it.
    stronglyFairActors: [
      "guest-driver",
      ...modelCase.tasks.map((task) => `scheduler.${task.name}`),
      ...Array.from({ length: ctx.vcpus }, (_, v) => readyActor(v)),
    ],
    initial: (s) => initial(ctx, s),
  });
  return { model, ctx };
}

/** All that the guest can do, as actions: per vCPU the scheduler and the handlers, per task its steps. */
import type { Action } from "../../explore/model.ts";
import type { Machine } from "../machine.ts";
import { handlerActions } from "./handlers.ts";
import { nmiAction } from "./nmi.ts";
import { schedulerActions } from "./scheduler.ts";
import { killActions, taskActions } from "./tasks.ts";

export function guestActions(m: Machine): Action[] {
  return [
    ...m.vcpus.flatMap((vcpu) => [
      ...schedulerActions(m, vcpu),
      ...handlerActions(m, vcpu),
      nmiAction(m, vcpu),
    ]),
    ...m.tasks.flatMap((task) => taskActions(m, task)),
    ...killActions(m),
  ];
}

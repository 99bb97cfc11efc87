/** How an error that reaches the guest ends an access: SIGBUS to the task, or an oops of the guest's kernel. */
import type { Kernel, Machine } from "../machine.ts";
import type { Saw, Task } from "../task.ts";

type SigbusCode = "BUS_ADRERR" | "BUS_MCEERR_AR";

const sawCode: Readonly<Record<SigbusCode, Saw>> = {
  BUS_ADRERR: "sigbus-adrerr",
  BUS_MCEERR_AR: "sigbus-mceerr",
};

/** A handler that jumps past the access lets the task go on; without a stack there is no handler. */
export function sigbus(m: Machine, task: Task, code: SigbusCode): void {
  m.log?.("sigbus", "guest", "guest", `SIGBUS ${code} to ${task.name}`);
  const ends = task.onSigbus === "killed";
  if (task.currentAccess?.op === "stack" && !ends) {
    task.die();
    return;
  }
  task.advance(sawCode[code]);
  if (ends) task.state = "dead";
}

export function oops(m: Machine, task: Task | null, kernel: Exclude<Kernel, "alive">, why: string): void {
  if (m.kernel !== "panic") m.kernel = kernel;
  m.log?.("exception", "guest", "guest", `${why}: guest ${kernel}`);
  task?.die();
}

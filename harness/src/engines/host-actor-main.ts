/**
 * A process of the host that does a scenario's host steps to the file: entry point, started by the host setup.
 * Small import graph: one of these starts for each case.
 */
import { closeSync, ftruncateSync, openSync } from "node:fs";
import { actionsOf, type HostAction, type HostActor } from "../../../language/src/index.ts";
import { disableCoreDumps, lookAtThread } from "../../../sys/src/index.ts";
import { Signals, send, tieToParent } from "./child-side.ts";
import { actOnPath } from "./host-action.ts";
import type { HostActorInbound, HostActorOutbound } from "./host-actor.ts";
import { actOnServer } from "./server-action.ts";

tieToParent();
// A device's access may be the end of this process.
disableCoreDumps();

const signals = new Signals();
const report = (message: HostActorOutbound): Promise<void> => send(message);

/** Kept by `open`, for `ftruncate`. */
let descriptor: number | null = null;

function closeDescriptor(): void {
  if (descriptor !== null) closeSync(descriptor);
  descriptor = null;
}

/** What the steps are done to. */
type Target = Pick<Extract<HostActorInbound, { type: "start" }>, "path" | "serverPid">;

async function act(action: HostAction, { path, serverPid }: Target): Promise<void> {
  switch (action.verb) {
    case "open":
      descriptor ??= openSync(path, "r+");
      return;
    case "ftruncate":
      ftruncateSync(descriptor ?? -1, Number(action.size));
      return;
    case "kill-server":
    case "stop-server":
    case "continue-server":
      if (serverPid === null) throw new Error(`${action.verb}: no server`);
      await actOnServer(action, serverPid);
      return;
    default:
      actOnPath(action, path);
  }
}

/** How long this thread, which does the steps, has waited for a processor; 0 where the kernel does not say. */
function delayedSoFarMs(): number {
  return lookAtThread(process.pid, () => performance.now())?.delayedMs ?? 0;
}

/** Does it and times it; a failure is an observation. */
async function perform(action: HostAction, label: string, target: Target): Promise<void> {
  await report({ type: "begin", label });
  const start = performance.now();
  const delayedMs = delayedSoFarMs();
  let errno: string | null = null;
  try {
    await act(action, target);
  } catch (error) {
    errno = (error as NodeJS.ErrnoException).code ?? null;
    if (errno === null) throw error;
  }
  const ms = performance.now() - start;
  await report({ type: "end", label, ms, heldUpMs: delayedSoFarMs() - delayedMs, errno });
}

async function run(actor: HostActor, target: Target): Promise<void> {
  const labels = new Map(actionsOf(actor).map(({ label, index }) => [index, label]));
  for (const [index, step] of actor.steps.entries()) {
    switch (step.verb) {
      case "await":
        await signals.wait(step.name);
        break;
      case "signal":
        await report({ type: "signal", name: step.name });
        break;
      default:
        await perform(step, labels.get(index) ?? step.verb, target);
    }
  }
  closeDescriptor();
  await report({ type: "finished" });
}

process.on("message", (message: HostActorInbound) => {
  switch (message.type) {
    case "prepare":
      descriptor ??= openSync(message.path, "r+");
      void report({ type: "prepared" });
      return;
    case "start":
      // This process may have served another case, whose late signals are none of this one's.
      signals.reset(message.raised);
      void run(message.actor, message);
      return;
    case "signal":
      signals.raise(message.name);
      return;
  }
});

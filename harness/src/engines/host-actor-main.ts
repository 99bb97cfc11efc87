/**
 * A process of the host that does a scenario's host steps to the file: entry point, started by the stage.
 * Small import graph: one of these starts for each case.
 */
import { renameSync, unlinkSync, writeFileSync } from "node:fs";
import { punchHole, truncate } from "../../../sys/src/index.ts";
import { actionsOf, type HostAction, type HostActor } from "../scenario/labels.ts";
import { Signals, send, tieToParent } from "./child-side.ts";
import type { HostActorInbound, HostActorOutbound } from "./host-actor.ts";

tieToParent();

const signals = new Signals();
const tell = (message: HostActorOutbound): Promise<void> => send(message);

function act(action: HostAction, path: string): void {
  switch (action.verb) {
    case "truncate":
      truncate(path, action.size);
      return;
    case "punch":
      punchHole(path, action.offset, action.length);
      return;
    case "rename-over":
      writeFileSync(`${path}.other`, "");
      renameSync(`${path}.other`, path);
      return;
    case "unlink":
      unlinkSync(path);
      return;
  }
}

/** Does it and times it; a failure is an observation. */
async function perform(action: HostAction, label: string, path: string): Promise<void> {
  await tell({ type: "begin", label });
  const start = performance.now();
  let errno: string | null = null;
  try {
    act(action, path);
  } catch (error) {
    errno = (error as NodeJS.ErrnoException).code ?? null;
    if (errno === null) throw error;
  }
  await tell({ type: "end", label, ms: performance.now() - start, errno });
}

async function run(actor: HostActor, path: string): Promise<void> {
  const labels = new Map(actionsOf(actor).map(({ label, index }) => [index, label]));
  for (const [index, step] of actor.steps.entries()) {
    switch (step.verb) {
      case "await":
        await signals.wait(step.name);
        break;
      case "signal":
        await tell({ type: "signal", name: step.name });
        break;
      default:
        await perform(step, labels.get(index) ?? step.verb, path);
    }
  }
  await tell({ type: "finished" });
}

process.on("message", (message: HostActorInbound) => {
  switch (message.type) {
    case "start":
      // This process may have served another case, whose late signals are none of this one's.
      signals.reset(message.raised);
      void run(message.actor, message.path);
      return;
    case "signal":
      signals.raise(message.name);
      return;
  }
});

/**
 * A process of the host that does a scenario's host steps to the file: entry point, started by the stage.
 * Small import graph: one of these starts for each case.
 */
import { renameSync, unlinkSync, writeFileSync } from "node:fs";
import { dieWithParent, punchHole, truncate } from "../../../sys/src/index.ts";
import { parentPid } from "../run/tag.ts";
import { actionsOf, type HostAction, type HostActor } from "../scenario/labels.ts";
import type { HostActorInbound, HostActorOutbound } from "./host-actor.ts";

dieWithParent(parentPid());

/** Names raised so far: a signal stays raised, so that it cannot be missed. */
const raised = new Set<string>();
const waiting = new Map<string, () => void>();

/** Resolves when the message has left this process: the next step may block or kill it. */
function send(message: HostActorOutbound): Promise<void> {
  return new Promise((resolve) => {
    process.send?.(message, undefined, undefined, () => resolve());
  });
}

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
  await send({ type: "begin", label });
  const start = performance.now();
  let errno: string | null = null;
  try {
    act(action, path);
  } catch (error) {
    errno = (error as NodeJS.ErrnoException).code ?? null;
    if (errno === null) throw error;
  }
  await send({ type: "end", label, ms: performance.now() - start, errno });
}

async function run(actor: HostActor, path: string): Promise<void> {
  const labels = new Map(actionsOf(actor).map(({ label, index }) => [index, label]));
  for (const [index, step] of actor.steps.entries()) {
    switch (step.verb) {
      case "await":
        if (!raised.has(step.name)) await new Promise<void>((resolve) => waiting.set(step.name, resolve));
        break;
      case "signal":
        await send({ type: "signal", name: step.name });
        break;
      default:
        await perform(step, labels.get(index) ?? step.verb, path);
    }
  }
  await send({ type: "finished" });
}

process.on("message", (message: HostActorInbound) => {
  switch (message.type) {
    case "start":
      // This process may have served another case, whose late signals are none of this one's.
      raised.clear();
      waiting.clear();
      for (const name of message.raised) raised.add(name);
      void run(message.actor, message.path);
      return;
    case "signal":
      raised.add(message.name);
      waiting.get(message.name)?.();
      return;
  }
});
process.on("disconnect", () => process.exit());

/**
 * A process of the host that does a scenario's host steps to the file: entry point, started by the host setup.
 * Small import graph: one of these starts for each case.
 */
import { closeSync, ftruncateSync, openSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { actionsOf, type HostAction, type HostActor } from "../../../language/src/index.ts";
import {
  collapseRange,
  files,
  inOwnMountNamespace,
  lookAtThread,
  punchHole,
  setFileSystemIdentity,
  storeThroughMapping,
  truncate,
} from "../../../sys/src/index.ts";
import { Signals, send, tieToParent } from "./child-side.ts";
import type { HostActorInbound, HostActorOutbound } from "./host-actor.ts";

tieToParent();

const signals = new Signals();
const report = (message: HostActorOutbound): Promise<void> => send(message);

const NOBODY = 65534;

/** Kept by `open`, for `ftruncate`. */
let descriptor: number | null = null;

function closeDescriptor(): void {
  if (descriptor !== null) closeSync(descriptor);
  descriptor = null;
}

/** By the magic link of a descriptor: this user need not have access to the folders above the file. */
function truncateAsNobody(path: string, size: bigint): void {
  const fd = openSync(path, files.O_PATH);
  setFileSystemIdentity(NOBODY, NOBODY);
  try {
    truncate(`/proc/self/fd/${fd}`, size);
  } finally {
    setFileSystemIdentity(process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
    closeSync(fd);
  }
}

function truncateAs(action: Extract<HostAction, { verb: "truncate" }>, path: string): void {
  const work = () =>
    action.options?.includes("as-nobody") === true
      ? truncateAsNobody(path, action.size)
      : truncate(path, action.size);
  if (action.options?.includes("own-namespace") === true) inOwnMountNamespace(work);
  else work();
}

function openAnd(path: string, flags: string, work: (fd: number) => void): void {
  const fd = openSync(path, flags);
  try {
    work(fd);
  } finally {
    closeSync(fd);
  }
}

function act(action: HostAction, path: string): void {
  switch (action.verb) {
    case "truncate":
      truncateAs(action, path);
      return;
    case "open-truncate":
      openAnd(path, "r+", (fd) => ftruncateSync(fd, Number(action.size)));
      return;
    case "open":
      descriptor ??= openSync(path, "r+");
      return;
    case "ftruncate":
      ftruncateSync(descriptor ?? -1, Number(action.size));
      return;
    case "open-trunc":
      openAnd(path, "w", () => {});
      return;
    case "open-read":
      openAnd(path, "r", () => {});
      return;
    case "punch":
      punchHole(path, action.offset, action.length);
      return;
    case "collapse":
      collapseRange(path, action.offset, action.length);
      return;
    case "map-store":
      storeThroughMapping(path, action.offset, action.value);
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

/** How long this thread, which does the steps, has waited for a processor; 0 where the kernel does not say. */
function delayedSoFarMs(): number {
  return lookAtThread(process.pid, () => performance.now())?.delayedMs ?? 0;
}

/** Does it and times it; a failure is an observation. */
async function perform(action: HostAction, label: string, path: string): Promise<void> {
  await report({ type: "begin", label });
  const start = performance.now();
  const delayedMs = delayedSoFarMs();
  let errno: string | null = null;
  try {
    act(action, path);
  } catch (error) {
    errno = (error as NodeJS.ErrnoException).code ?? null;
    if (errno === null) throw error;
  }
  const ms = performance.now() - start;
  await report({ type: "end", label, ms, heldUpMs: delayedSoFarMs() - delayedMs, errno });
}

async function run(actor: HostActor, path: string): Promise<void> {
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
        await perform(step, labels.get(index) ?? step.verb, path);
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
      void run(message.actor, message.path);
      return;
    case "signal":
      signals.raise(message.name);
      return;
  }
});

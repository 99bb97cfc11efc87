/** Which guards this machine has: each is tried once, on a file where the cases' files will lie. */
import { closeSync, openSync, rmSync } from "node:fs";
import { join } from "node:path";
import { hostActors, type Scenario, type ServerPart } from "../../../../language/src/index.ts";
import {
  FAN_CLASS_PRE_CONTENT,
  FAN_OPEN_PERM,
  FAN_PRE_ACCESS,
  FAN_REPORT_TID,
  fanotifyInit,
  fanotifyMarkInode,
  releaseLease,
  SIGRTMIN,
  takeWriteLease,
  threadId,
} from "../../../../sys/src/index.ts";
import type { Support } from "../../engine.ts";
import { errorText } from "../../error-text.ts";
import { supportOf, thisMachine } from "../../machine.ts";
import { runDirectoryParent } from "../../paths.ts";
import { RUN_DIRECTORY_PREFIX } from "../../run/sweep.ts";
import { makeTemporaryFolder } from "../../surroundings.ts";

/** Runs `attempt` on a fresh file; what it throws is the reason. */
function tried(attempt: (path: string, fd: number) => void): string | null {
  const folder = makeTemporaryFolder(runDirectoryParent, RUN_DIRECTORY_PREFIX);
  let fd = -1;
  try {
    const path = join(folder, "probe");
    fd = openSync(path, "wx+");
    attempt(path, fd);
    return null;
  } catch (error) {
    return errorText(error);
  } finally {
    if (fd >= 0) closeSync(fd);
    rmSync(folder, { recursive: true });
  }
}

const probes = {
  // Nobody breaks it: the signal is never sent.
  "kernel-lease": () =>
    tried((_, fd) => {
      takeWriteLease(fd, { threadId: threadId(), signal: SIGRTMIN + 5 });
      releaseLease(fd);
    }),
  "pre-content": () =>
    tried((path) => {
      const group = fanotifyInit(FAN_CLASS_PRE_CONTENT | FAN_REPORT_TID);
      try {
        fanotifyMarkInode(group, FAN_PRE_ACCESS | FAN_OPEN_PERM, path);
      } finally {
        closeSync(group);
      }
    }),
} as const;

const known = new Map<string, string | null>();

/** Can this guard be armed here, and can the scenario's hosts do what they are to do? */
export function guardSupport(server: ServerPart, scenario: Scenario): Support {
  const special = hostActors(scenario).some(([, { steps }]) =>
    steps.some((step) => "options" in step && step.options !== undefined),
  );
  if (special) {
    const root = supportOf(thisMachine(), ["root"]);
    if (root.kind === "no") return root;
  }
  if (server === "fuse-lease") return supportOf(thisMachine(), ["fuse"]);
  if (server !== "kernel-lease" && server !== "pre-content") return { kind: "yes" };
  if (!known.has(server)) known.set(server, probes[server]());
  const reason = known.get(server) ?? null;
  if (reason === null) return { kind: "yes" };
  return { kind: "no", reason: `guard ${server} cannot be had here: ${reason}`, fix: null };
}

/**
 * Which pages of the file a scenario takes away, and by what: judged by what is lost, not by the file's size alone. A page
 * is lost where no page can be had for it: behind the end of the file (filemap_fault() compares page numbers), in the part
 * of a full tmpfs that was never allocated (ENOSPC), where the server of its mount fails every READ, cuts the file, or is dead.
 */
import type { FaultRule } from "./fault-rules.ts";
import { isLinuxCall, isWrite } from "./guest-verbs.ts";
import { allAccesses } from "./labels.ts";
import { PAGE_BYTES } from "./limits.ts";
import { pageBytesOf, type Scenario } from "./scenario.ts";
import { type Served, servedPage } from "./served.ts";
import { fileSizes } from "./sizes.ts";
import { userfaultActionAt } from "./userfault.ts";

/** `unknown`: the scenario leaves it open, as a rule does that fails some READs and not others. */
export type Loss = "lost" | "kept" | "unknown";

/** Is the page of that offset behind the end of a file of that size? The page that contains the end stays. */
export function isBehind(sizeBytes: bigint, fileOffset: bigint): boolean {
  return fileOffset / PAGE_BYTES >= (sizeBytes + PAGE_BYTES - 1n) / PAGE_BYTES;
}

/** First byte of a full tmpfs, or of a file of huge pages, that has no page: its second half, in whole pages. */
export function firstUnallocated(scenario: Pick<Scenario, "backing">): bigint | null {
  const { kind, size } = scenario.backing;
  const page = pageBytesOf(kind);
  return kind === "tmpfs-full" || kind === "hugetlb" ? (size / page / 2n) * page : null;
}

function isAt({ at }: Pick<FaultRule, "at">, fileOffset: bigint): boolean {
  return at === null || BigInt(at) / PAGE_BYTES === fileOffset / PAGE_BYTES;
}

/**
 * A READ that is cut short is the end of the file to the client (fuse_short_read(), fs/fuse/file.c). The page that contains
 * that end stays; of those behind it the READ that covers them decides. Without `at` the count begins where the kernel's READ
 * does, which is anywhere.
 */
function lossByShort({ at, after, times }: FaultRule, bytes: number, fileOffset: bigint): Loss {
  if (at === null) return "unknown";
  const endBytes = BigInt(at + bytes);
  if (!isBehind(endBytes, fileOffset)) return "kept";
  const isInRead = isAt({ at }, fileOffset);
  return isInRead && after === 0 && times === null ? "lost" : "unknown";
}

/** What one rule of the mount's server makes of the page. */
function lossByRule(rule: FaultRule, fileOffset: bigint): Loss {
  const { operation, after, times, action } = rule;
  switch (action.kind) {
    case "delay":
      return "kept";
    case "hang":
      // Nothing is lost and nothing comes: no access to it ends.
      return isAt(rule, fileOffset) ? "unknown" : "kept";
    case "fail":
      if (operation !== "read" || !isAt(rule, fileOffset)) return "kept";
      return after === 0 && times === null ? "lost" : "unknown";
    case "short":
      return operation === "read" ? lossByShort(rule, action.bytes, fileOffset) : "kept";
    case "truncate":
      return isBehind(BigInt(action.sizeBytes), fileOffset) ? "unknown" : "kept";
  }
}

/** What the handler of a userfaultfd makes of the page. */
export function lossByHandler({ backing }: Pick<Scenario, "backing">, fileOffset: bigint): Loss {
  const { handler } = backing;
  if (handler === undefined || fileOffset < handler.prefault) return "kept";
  if (handler.faults === "user") return "lost";
  switch (userfaultActionAt(handler, fileOffset)?.kind) {
    case undefined:
    case "delay":
      return "kept";
    case "close":
    case "poison":
      return "lost";
    case "hang":
    case "die":
      return "unknown";
  }
}

function worst(losses: readonly Loss[]): Loss {
  if (losses.includes("lost")) return "lost";
  return losses.includes("unknown") ? "unknown" : "kept";
}

const lossByEnd: Readonly<Record<Served, Loss>> = {
  answered: "kept",
  failed: "lost",
  // Nothing is lost and nothing comes.
  unanswered: "unknown",
  unknown: "unknown",
};

type Parts = Pick<Scenario, "actors" | "backing" | "layout" | "window">;

/** What comes of asking for the page of that offset: the mount's server, or the handler of a userfaultfd. */
export function lossByServer(scenario: Parts, fileOffset: bigint): Loss {
  const byRules = (scenario.backing.mount?.faults ?? []).map((rule) => lossByRule(rule, fileOffset));
  return worst([
    ...byRules,
    lossByEnd[servedPage(scenario, fileOffset)],
    lossByHandler(scenario, fileOffset),
  ]);
}

/** Is the page of that offset lost at any time? */
export function lossEver(scenario: Parts, fileOffset: bigint): Loss {
  const hole = firstUnallocated(scenario);
  if (hole !== null && fileOffset >= hole) return "lost";
  if (fileSizes(scenario).some((sizeBytes) => isBehind(sizeBytes, fileOffset))) return "lost";
  return lossByServer(scenario, fileOffset);
}

/**
 * What zeros at that offset are when all is done. `held`: the file's own, as in a hole (that of a full tmpfs, too), behind
 * the end in its last page, after it has grown again. `silent`: no page can be had, so they stand in for data.
 */
export function zerosAt(scenario: Parts, fileOffset: bigint): "held" | "silent" | "unknown" {
  if (isBehind(fileSizes(scenario).at(-1) ?? 0n, fileOffset)) {
    // A write of the guest's makes the file longer again, with a hole before what is written.
    const mayGrow = allAccesses(scenario).some((step) => isLinuxCall(step) && isWrite(step));
    return mayGrow ? "unknown" : "silent";
  }
  switch (lossByServer(scenario, fileOffset)) {
    case "lost":
      return "silent";
    case "kept":
      return "held";
    case "unknown":
      return "unknown";
  }
}

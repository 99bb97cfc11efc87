/** What `daxfault protect` reports: as data, and in words. The caller makes the data visible first. */
import { bytesText } from "../diagnose/facts.ts";
import type { Attempt } from "./messages.ts";

/**
 * What stands between a file and whoever would make it shorter. `refused`: truncations fail with ETXTBSY. `sealed`: nobody can
 * make it shorter. `noticed`: it is said when it has happened. `nothing`: not even that.
 */
export type Means = "refused" | "sealed" | "noticed" | "nothing";

export type ProtectNews =
  | {
      readonly type: "file";
      readonly path: string;
      readonly pids: readonly number[];
      readonly means: Means;
      /** Why no more than that; null: there is nothing to add. */
      readonly reason: string | null;
      readonly sizeBytes: number | null;
      readonly mappedBytes: number;
      /** Mapped behind the end already: a touch of it hangs the VM. */
      readonly behindEndBytes: number | null;
    }
  | { readonly type: "folder"; readonly path: string; readonly folders: number; readonly refused: number }
  | { readonly type: "folders-cut"; readonly path: string; readonly max: number }
  | { readonly type: "ready"; readonly files: number; readonly refused: number }
  | { readonly type: "refused"; readonly path: string; readonly attempt: Attempt }
  | { readonly type: "passed"; readonly path: string; readonly attempt: Attempt }
  | { readonly type: "overdue"; readonly attempt: Attempt }
  | { readonly type: "shorter"; readonly path: string; readonly fromBytes: number; readonly toBytes: number }
  | { readonly type: "gap"; readonly why: string }
  | { readonly type: "gap-over"; readonly ms: number }
  | { readonly type: "unseen"; readonly pid: number; readonly why: string }
  | { readonly type: "process-ended"; readonly pid: number }
  | { readonly type: "left-out"; readonly count: number };

/** With the time, as `--json` has it. */
export type ProtectLine = ProtectNews & { readonly at: string };

function whoText({ who }: Attempt): string {
  const user = who.uid === null ? "" : `, user ${who.uid}`;
  const process = who.pid === null ? "a process that has gone" : `process ${who.pid}`;
  return `${process} (${who.name}${user}, thread ${who.tid})`;
}

const attemptText = (attempt: Attempt, path: string): string =>
  `${attempt.what} of ${path} (${attempt.sizeBytes} bytes), by ${whoText(attempt)}`;

const MEANS: Readonly<Record<Means, string>> = {
  refused: "protected: what would make it shorter fails with ETXTBSY",
  sealed: "protected: sealed against getting shorter",
  noticed: "NOT PROTECTED, and noticed only after the fact",
  nothing: "NOT PROTECTED, and not even noticed",
};

function readyText({ files, refused }: Extract<ProtectNews, { readonly type: "ready" }>): string {
  if (files === 0)
    return (
      "ready: 0 files are protected, for none is mapped; what is mapped from now on will be. " +
      "If that is not what you expected: daxfault diagnose says which processes have VMs, and what they have mapped"
    );
  if (refused === 0)
    return `ready: NOTHING IS PROTECTED: none of ${files} mapped files can be, as said of each; docs/guards.md has what else there is`;
  return `ready: ${refused} of ${files} mapped files are protected`;
}

export function newsText(news: ProtectNews): string {
  switch (news.type) {
    case "file": {
      const { path, pids, means, reason, mappedBytes, behindEndBytes } = news;
      const by = pids.length === 1 ? `process ${pids[0]}` : `processes ${pids.join(", ")}`;
      const behind =
        behindEndBytes === null || behindEndBytes === 0
          ? ""
          : `; ${bytesText(BigInt(behindEndBytes))} ARE BEHIND ITS END ALREADY (daxfault rescue --pid ${pids[0]})`;
      const why = reason === null ? "" : `: ${reason}`;
      return `${path}, ${bytesText(BigInt(mappedBytes))} mapped by ${by}: ${MEANS[means]}${why}${behind}`;
    }
    case "folder":
      return (
        `${news.path}: the files of ${news.folders} folder${news.folders === 1 ? "" : "s"} are watched over` +
        (news.refused === 0
          ? ""
          : `; NOT those of ${news.refused} more, whose file system has no such events`)
      );
    case "folders-cut":
      return `${news.path}: it has more than ${news.max} folders; in the others a file is protected once it is seen to be mapped`;
    case "ready":
      return readyText(news);
    case "refused":
      return `refused: ${attemptText(news.attempt, news.path)}`;
    case "passed":
      return `let through, as --allow says: ${attemptText(news.attempt, news.path)}`;
    case "overdue":
      return `let through, for nobody could say in time whether it is mapped: ${attemptText(news.attempt, "a file")}`;
    case "shorter":
      return (
        `SHORTER, and nothing refused it: ${news.path}, from ${news.fromBytes} to ${news.toBytes} bytes. ` +
        "A touch of what is gone hangs a VM (daxfault diagnose, daxfault rescue); to another process it is a SIGBUS"
      );
    case "gap":
      return `NOT PROTECTED for the moment: the listener has ${news.why}; nothing waits for it any more, and it is started again`;
    case "gap-over":
      return `protected again, after ${Math.round(news.ms)} ms`;
    case "unseen":
      return `what process ${news.pid} has mapped could not be read (${news.why}): what was known stands`;
    case "process-ended":
      return `process ${news.pid} has ended: nobody is kept from its files any more`;
    case "left-out":
      return `${news.count} messages were left out: there were too many`;
  }
}

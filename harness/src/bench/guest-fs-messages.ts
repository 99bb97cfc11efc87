/** What the parts of `bench guest-fs` tell each other: the command, the program beside KVM, and the program in the guest. */
import type { Effort, GuestMount } from "../../../fs-server/src/index.ts";

/** Where suites run: the folder underneath, outside the guest; and the guest's two mounts. */
export type PlaceName = "folder" | GuestMount;

export type FioJob = {
  readonly engine: "psync" | "mmap";
  readonly pattern: "read" | "randread" | "write" | "randwrite";
  /** `cold`: the guest's caches were dropped before; `warm`: the same file has just been read. */
  readonly cache: "cold" | "again";
};

/** For the program that does the work in one kernel, on one or more places. */
export type InsidePlan = {
  readonly places: readonly { readonly name: PlaceName; readonly folder: string }[];
  /** A folder on none of them. */
  readonly beside: string;
  /** The file that the results go to, a JSON line each. */
  readonly results: string;
  /** Names. */
  readonly suites: readonly string[];
  readonly effort: Effort;
  /** null: none. */
  readonly fio: { readonly fileBytes: number; readonly rounds: number } | null;
};

/** A line of the results. */
export type InsideResult =
  | {
      readonly type: "suite";
      readonly place: PlaceName;
      readonly suite: string;
      readonly complaints: readonly string[];
      /** Why it did not run; null: it did. */
      readonly skipped: string | null;
      readonly seconds: number;
    }
  | ({
      readonly type: "fio";
      readonly place: PlaceName;
      /** null: fio has failed; `problem` is its last word. */
      readonly operationsPerSecond: number | null;
      readonly problem: string | null;
    } & FioJob)
  /** The kernel's messages of level warning and above. */
  | {
      readonly type: "kernel";
      readonly place: PlaceName;
      readonly release: string;
      readonly messages: readonly string[];
    }
  | { readonly type: "done" };

/** For the program that has KVM: paths are the same inside the VM. */
export type GuestFsPlan = {
  readonly kernel: string;
  readonly initrd: string;
  readonly ramMiB: number;
  readonly windowMiB: number;
  readonly lifeMs: number;
  readonly suites: readonly string[];
  readonly effort: Effort;
  readonly fio: InsidePlan["fio"];
};

export type FromGuestFs =
  | { readonly type: "progress"; readonly text: string }
  | { readonly type: "result"; readonly result: InsideResult }
  /** A line of the guest's console. */
  | { readonly type: "line"; readonly text: string }
  /** The guest's end; `defects`: what our file servers and devices complained about. */
  | { readonly type: "ended"; readonly how: string; readonly defects: readonly string[] };

/** Tags and names of the guest's file systems. */
export const ROOT_TAG = "root";
export const SHARES: readonly { readonly name: GuestMount; readonly options: string }[] = [
  { name: "virtio-fs", options: "" },
  { name: "virtio-fs-dax", options: "dax=always" },
];
/** In the folder of the share without DAX. */
export const PLAN_FILE = "plan.json";
export const RESULTS_FILE = "results.jsonl";
/** In the folder of each share: what fio works on. */
export const FIO_FILE = "fio.data";

/** Messages between `daxfault bench fence`, its VM process and the process that truncates. */

export type FencePlan = {
  readonly path: string;
  readonly fileBytes: number;
  /** vCPUs, each with a task that loads from the page over and over. */
  readonly vcpus: number;
  readonly rounds: number;
  /** false: the first round without it, watched for `watchMs`. */
  readonly hasFence: boolean;
  readonly watchMs: number;
};

/** One vCPU in one round; milliseconds from the return of truncate(2). */
export type FenceSample = {
  /** KVM_RUN gave up: out of the loop. */
  readonly exitMs: number;
  /** The guest kernel has sent the task SIGBUS. */
  readonly toldMs: number;
};

export type FenceReport = {
  readonly rounds: number;
  readonly samples: readonly FenceSample[];
  /** CPU time of the VM process a round, from before the truncation until every task got its SIGBUS. */
  readonly cpuMs: readonly number[];
  /** Why each VM that was lost was lost; the rounds went on with a new one. */
  readonly losses: readonly string[];
  /** Without the fence: what was seen when the watch ended. */
  readonly unfenced: {
    readonly watchedMs: number;
    readonly isLooping: boolean;
    readonly wasTold: boolean;
    readonly faultsPerSecond: number;
    /** CPU time of the VM process, and of the whole machine, kernel threads included, in seconds a second. */
    readonly processCpu: number;
    readonly machineCpu: number;
  } | null;
};

export type ToFenceVm = { readonly type: "start"; readonly plan: FencePlan };
export type FromFenceVm =
  | { readonly type: "round"; readonly done: number }
  | { readonly type: "report"; readonly report: FenceReport };

export type ToTruncator = { readonly type: "truncate"; readonly path: string; readonly sizeBytes: number };
/** `atMs`: when truncate(2) had returned (CLOCK_MONOTONIC). */
export type FromTruncator = { readonly type: "truncated"; readonly atMs: number };

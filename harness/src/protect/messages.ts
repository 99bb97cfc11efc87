/** Messages between `daxfault protect` and its listener, a process of its own: JSON, one object a line. Bytes in decimal. */

export type ToListener =
  /** From now on these ranges of the file behind `path`, a magic link, are not to be cut. `mark`: events are asked for it. */
  | {
      readonly type: "guard";
      readonly id: number;
      readonly path: string;
      readonly ranges: readonly (readonly [string, string])[];
      readonly mark: boolean;
    }
  | { readonly type: "drop"; readonly id: number }
  /** Events are asked for every file in this folder, not in those below. */
  | { readonly type: "folder"; readonly path: string }
  /** What these processes do passes. */
  | { readonly type: "allow"; readonly pids: readonly number[] }
  /** The ranges are those of now: let the event go, unless they are cut. */
  | { readonly type: "decide"; readonly event: number };

export type Who = {
  readonly tid: number;
  /** null: it has gone. */
  readonly pid: number | null;
  readonly name: string;
  readonly uid: number | null;
};

/** An attempt on a file. */
export type Attempt = {
  readonly who: Who;
  /** `truncate to 0 bytes` */
  readonly what: string;
  readonly fromBytes: string;
  readonly sizeBytes: string;
};

export type FromListener =
  | { readonly type: "ready" }
  | { readonly type: "failed"; readonly code: string; readonly message: string }
  | { readonly type: "guarded"; readonly id: number }
  | { readonly type: "unguarded"; readonly id: number; readonly code: string; readonly message: string }
  | {
      readonly type: "folder";
      readonly path: string;
      readonly refusal: { readonly code: string; readonly message: string } | null;
    }
  /** Known ranges are not cut; perhaps there are newer ones. The thread waits until `decide`, or the listener's bound. */
  | { readonly type: "ask"; readonly event: number }
  | { readonly type: "refused"; readonly id: number; readonly attempt: Attempt }
  /** By a process whose doings pass, though it cuts. */
  | { readonly type: "passed"; readonly id: number; readonly attempt: Attempt }
  /** Nobody said in time whether a VM has mapped it by now: it went through. */
  | { readonly type: "overdue"; readonly attempt: Attempt }
  /** So many of these messages were left out: nobody read them fast enough. */
  | { readonly type: "left-out"; readonly count: number };

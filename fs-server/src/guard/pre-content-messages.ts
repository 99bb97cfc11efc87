/** Messages between the pre-content guard and its listener process: JSON, one object a line. */

export type ToListener =
  | { readonly type: "arm"; readonly id: number; readonly path: string }
  | { readonly type: "disarm"; readonly id: number }
  /** The mapping is gone: allow the event. */
  | { readonly type: "go"; readonly event: number };

export type FromListener =
  | { readonly type: "ready" }
  | { readonly type: "failed"; readonly code: string; readonly message: string }
  | { readonly type: "armed"; readonly id: number }
  | { readonly type: "refused"; readonly id: number; readonly code: string; readonly message: string }
  /** A thread is blocked until `go`. `from`: first byte that may be lost, in decimal. */
  | {
      readonly type: "ask";
      readonly event: number;
      readonly id: number;
      readonly from: string;
      readonly by: string;
    }
  /** The thread of this allowed event has sent another one: its operation is done. */
  | { readonly type: "over"; readonly event: number; readonly id: number }
  /** No `go` arrived in time: the event was allowed. */
  | { readonly type: "overdue"; readonly event: number; readonly id: number };

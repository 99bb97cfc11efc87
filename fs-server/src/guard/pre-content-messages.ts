/** What the pre-content guard and its listener process say to each other: JSON, one object a line. */

export type ToListener =
  | { readonly type: "arm"; readonly id: number; readonly path: string }
  | { readonly type: "disarm"; readonly id: number }
  /** The mapping is gone: let the process go on. */
  | { readonly type: "go"; readonly event: number };

export type FromListener =
  | { readonly type: "ready" }
  | { readonly type: "failed"; readonly code: string; readonly message: string }
  | { readonly type: "armed"; readonly id: number }
  | { readonly type: "refused"; readonly id: number; readonly code: string; readonly message: string }
  /** Somebody waits until `go`. `from`: first byte that may be lost, in decimal. */
  | {
      readonly type: "ask";
      readonly event: number;
      readonly id: number;
      readonly from: string;
      readonly by: string;
    }
  /** The thread that was let go with this event has come by again: what it was about to do is done. */
  | { readonly type: "over"; readonly event: number; readonly id: number }
  /** No `go` came in time: the process was let go. */
  | { readonly type: "overdue"; readonly event: number; readonly id: number };

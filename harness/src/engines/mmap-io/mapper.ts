/** Messages between the engine mmap-io and its mapping child. */
import type { GuestStep, WindowMapping } from "../../../../language/src/index.ts";

export type MapperInbound =
  | {
      readonly type: "map";
      readonly path: string;
      readonly mappings: readonly WindowMapping[];
    }
  | { readonly type: "start"; readonly steps: readonly GuestStep[] }
  | { readonly type: "signal"; readonly name: string };

export type MapperOutbound =
  | { readonly type: "mapped" }
  /** About to touch: what it is doing if it dies now. */
  | { readonly type: "touching"; readonly label: string }
  /** Loads, atomics and copies out: the bytes seen. Stores and copies in: the bytes written. */
  | { readonly type: "saw"; readonly label: string; readonly bytes: Uint8Array }
  /** A system call on the mapping failed with EFAULT. */
  | { readonly type: "efault"; readonly label: string }
  | { readonly type: "signal"; readonly name: string }
  | { readonly type: "counted"; readonly count: number }
  | { readonly type: "finished" };

/** Messages between the host setup and a host actor's process. */
import type { HostActor } from "../../../language/src/index.ts";
import type { StepTime } from "./host-step.ts";

export type HostActorInbound =
  /** Opens the file now: the actor's first step is `open`, and what it means is a descriptor older than the mapping. */
  | { readonly type: "prepare"; readonly path: string }
  | {
      readonly type: "start";
      readonly actor: HostActor;
      /** The file, as this actor reaches it: itself, or in the mount. */
      readonly path: string;
      /** Of the file server of the mount; null: there is none. */
      readonly serverPid: number | null;
      /** Signals raised so far. */
      readonly raised: readonly string[];
    }
  | { readonly type: "signal"; readonly name: string };

export type HostActorOutbound =
  | { readonly type: "prepared" }
  | { readonly type: "begin"; readonly label: string }
  /** `heldUpMs`: so much of `ms` it waited for a processor. */
  | ({ readonly type: "end"; readonly label: string } & StepTime)
  | { readonly type: "signal"; readonly name: string }
  /** All steps done. */
  | { readonly type: "finished" };

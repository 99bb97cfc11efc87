/** How a source is served to a VMM. */
import type { SourceOptions } from "../source-options.ts";

export type VhostUserSource = SourceOptions & {
  readonly path: string;
  /** By which the guest mounts it, where the device's configuration space is this server's; null: the VMM has it. */
  readonly tag: string | null;
};

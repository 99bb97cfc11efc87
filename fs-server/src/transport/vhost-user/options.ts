/** How a source is served to a VMM. */
import type { FileHandlesUse } from "../../../../language/src/words.ts";

export type VhostUserSource = {
  readonly path: string;
  /** By which the guest mounts it, where the device's configuration space is this server's; null: the VMM has it. */
  readonly tag: string | null;
  readonly readOnly: boolean;
  readonly debug: boolean;
  readonly writebackCache: boolean;
  /** null: where the source has them. */
  readonly posixAcl: boolean | null;
  readonly keepCache: boolean;
  readonly directIo: boolean;
  readonly allowDirectIo: boolean;
  readonly translateUid: readonly string[];
  readonly translateGid: readonly string[];
  readonly announceSubmounts: boolean;
  readonly fileHandles: FileHandlesUse;
  readonly entryTimeoutMs: number;
  readonly attributeTimeoutMs: number;
};

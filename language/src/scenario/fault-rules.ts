/** Rules for the server of a scenario's mount: which requests it delays, fails, cuts short, or truncates the file at. Data. */

/** The operations of a server that rules can name. */
export const faultOperations = ["read", "write", "open", "fsync", "getattr"] as const;

export type FaultAction =
  | { readonly kind: "delay"; readonly ms: number }
  /** An errno's name, e.g. EIO or ENOSPC. */
  | { readonly kind: "fail"; readonly errno: string }
  /**
   * So many bytes are read or written, and no more: from `at` on where the rule has it, whatever the call begins with (a
   * READ's beginning is the kernel's choice, fuse_readahead() in fs/fuse/file.c), else from the call's beginning.
   */
  | { readonly kind: "short"; readonly bytes: number }
  /** Never answered: the client waits until the connection ends. Of reads only: the harness itself opens the file. */
  | { readonly kind: "hang" }
  /** The file is cut to this size before the call goes on. */
  | { readonly kind: "truncate"; readonly sizeBytes: number };

export type FaultRule = {
  readonly operation: (typeof faultOperations)[number];
  /** Only calls that cover this byte of the file (read and write); null: all. */
  readonly at: number | null;
  /** Matching calls to let through first. */
  readonly after: number;
  readonly times: number | null;
  readonly action: FaultAction;
};

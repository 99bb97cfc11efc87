/** One input of the fuzzer: the files that it puts down, and what is called with them. Plain data: it is sent and kept. */

export type FuzzEntry =
  | { readonly path: string; readonly kind: "file"; readonly base64: string }
  /** A symbolic link: to somewhere else, to nothing, to itself. */
  | { readonly path: string; readonly kind: "link"; readonly to: string }
  | { readonly path: string; readonly kind: "folder" }
  | { readonly path: string; readonly kind: "fifo" };

/** A reader that no command line reaches with a file of the user's choice. */
export const readerNames = [
  "errata",
  "documented",
  "observed",
  "server-options",
  "kernel-image",
  "modules",
] as const;
export type ReaderName = (typeof readerNames)[number];

export type FuzzCall =
  | {
      readonly kind: "command";
      readonly argv: readonly string[];
      /** Files and folders that the command line names as outputs: nothing else may be there afterwards. */
      readonly outputs: readonly string[];
    }
  | { readonly kind: "reader"; readonly reader: ReaderName; readonly argv: readonly string[] };

export type FuzzInput = {
  /** The kind of file that is fuzzed: `scenario`, `record`. */
  readonly kind: string;
  readonly entries: readonly FuzzEntry[];
  readonly call: FuzzCall;
  /** By a process of its own: what starts children, and a sample of the rest. */
  readonly isProcess: boolean;
};

export function fileEntry(path: string, content: string | Buffer): FuzzEntry {
  const bytes = typeof content === "string" ? Buffer.from(content) : content;
  return { path, kind: "file", base64: bytes.toString("base64") };
}

/** Everything that the program may answer with: 0 as expected, 1 not, 2 nothing proven, 3 nothing ran, 64 usage. */
export const allowedCodes: readonly number[] = [0, 1, 2, 3, 64];

/** What came of one input. */
export type FuzzResult = {
  readonly kind: string;
  readonly code: number | null;
  /** What was wrong, each one sentence. */
  readonly problems: readonly string[];
};

/** The modes of `serve` that change what its users' programs see, by the name under which errata know them. */
import type { Transport } from "../../../language/src/words.ts";

export type ServeMode =
  | "devfuse"
  | "devfuse --writeback"
  | "devfuse --passthrough"
  | "devfuse --io-uring"
  | "libfuse";

export type ModeRow = {
  readonly name: ServeMode;
  readonly transport: Transport;
  /** Options of serve-main. */
  readonly args: readonly string[];
  /** Every suite; or `content`: those that are about content and the page cache. */
  readonly suites: "all" | "content";
};

export const serveModes: readonly ModeRow[] = [
  { name: "devfuse", transport: "devfuse", args: [], suites: "all" },
  { name: "devfuse --writeback", transport: "devfuse", args: ["--writeback"], suites: "content" },
  { name: "devfuse --passthrough", transport: "devfuse", args: ["--passthrough"], suites: "content" },
  { name: "devfuse --io-uring", transport: "devfuse", args: ["--io-uring"], suites: "all" },
  { name: "libfuse", transport: "libfuse", args: ["--transport", "libfuse"], suites: "all" },
];

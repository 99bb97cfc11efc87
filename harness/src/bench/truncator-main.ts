/** A process of the host that truncates a file at each message: entry point, for `daxfault bench fence`. */
import { truncate } from "../../../sys/src/index.ts";
import { monotonicMs } from "../../../vmm/src/index.ts";
import { send, tieToParent } from "../engines/child-side.ts";
import type { FromTruncator, ToTruncator } from "./fence-messages.ts";

tieToParent();
process.on("message", ({ path, sizeBytes }: ToTruncator) => {
  truncate(path, BigInt(sizeBytes));
  const message: FromTruncator = { type: "truncated", atMs: monotonicMs() };
  void send(message);
});

/** Where a command writes its JSON lines. Without the formats of reports, which take half a second to load. */
import { jsonText } from "../report/encode.ts";
import type { JsonRecord } from "../report/jsonl.ts";
import { openOutput } from "./output-file.ts";

export type JsonOutput<Line extends object = JsonRecord> = {
  /** Standard output carries the JSON lines: nothing else may be written there. */
  readonly isStdout: boolean;
  write(line: Line): void;
};

/** Opens `--json FILE|-`; without the option, records go nowhere. */
export function openJson<Line extends object = JsonRecord>(target: string | undefined): JsonOutput<Line> {
  if (target === undefined) return { isStdout: false, write() {} };
  const output = openOutput("--json", target);
  return {
    isStdout: output.isStdout,
    // One write a line: what is written stays (in FILE.partial) whatever happens to the run.
    write: (line) => output.write(Buffer.from(`${jsonText(line)}\n`)),
  };
}

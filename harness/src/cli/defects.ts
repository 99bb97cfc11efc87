/** Defects of this program as a command prints them, with how to report them. */
import { visible } from "../report/encode.ts";

/** Below every defect. */
export const REPORT_LINE =
  "Please report it: this text, the command line, and what daxfault doctor --json - prints.";

/** One line each on standard error. @param command as in messages: `daxfault compare` */
export function printDefects(command: string, defects: readonly string[]): void {
  for (const defect of defects) console.error(`${command}: defect: ${visible(defect)}`);
  if (defects.length > 0) console.error(REPORT_LINE);
}

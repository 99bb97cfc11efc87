/** Builds once before the tests: child processes always run from dist/, never from source. */
import { execFileSync } from "node:child_process";

export default function setup(): void {
  execFileSync("scripts/build", { stdio: "inherit" });
}

/** Hostile VMMs and guests at a server process, for a moment; `.ci/run` and fuzz-main have them for longer. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { fuzzVhostUser } from "../../src/fuzz/vhost-user.ts";

it("is answered or closed, and leaves no descriptor and no memory behind", {
  timeout: isLong ? 600_000 : 60_000,
}, async () => {
  const source = temporaryDirectory();
  writeFileSync(join(source, "a"), "a".repeat(5000));
  const figures = await fuzzVhostUser({ source, seed: 1, messages: isLong ? 10_000 : 150 });
  expect(figures).toMatchObject({ failures: [], defects: 0 });
  for (const kind of ["closed", "answered", "refused", "chains", "mounts"] as const) {
    expect(figures[kind], kind).toBeGreaterThan(0);
  }
});

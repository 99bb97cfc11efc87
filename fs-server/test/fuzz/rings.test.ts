/** A hostile guest, for a moment; `.ci/run` and fuzz-main have it for longer. */
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { describe, expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { RecordingWindow } from "../../src/dax/recording.ts";
import { NULL_FILE_SYSTEM } from "../../src/fs/null.ts";
import { fuzzRings } from "../../src/fuzz/rings.ts";
import { PassthroughFileSystem } from "../../src/passthrough/passthrough.ts";

describe("a hostile guest", () => {
  it.each([1, 2, 3])("gets what its rings say, or a device that needs a reset (seed %s)", (seed) => {
    const source = temporaryDirectory();
    writeFileSync(join(source, "a"), "a".repeat(5000));
    mkdirSync(join(source, "dir"));
    const limits = { nodeLimit: 16, handleLimit: 8, readOnly: seed === 3 };
    const figures = fuzzRings({
      fs: () => (seed === 1 ? NULL_FILE_SYSTEM : new PassthroughFileSystem(source, limits)),
      seed,
      chains: 800,
      session: { window: new RecordingWindow(2n ** 24n) },
    });
    expect(figures).toMatchObject({ failures: [], defects: 0 });
    // Both ways are met often, and sessions are agreed on.
    expect(figures.served).toBeGreaterThan(300);
    expect(figures.faults).toBeGreaterThan(100);
    expect(figures.sessions).toBeGreaterThan(50);
  });
});

/** The loops of `daxfault bench kvm` run on both sides; how fast is the bench's business. */
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { describe, expect, it, onTestFinished } from "vitest";
import { benchExits } from "../../../../src/index.ts";
import { kvmOrReason } from "../../../support/kvm.ts";

const peerSource = fileURLToPath(new URL("../../../../bench/exits.c", import.meta.url));

const kvm = kvmOrReason();

describe.skipIf(kvm.reason !== null)(`benchExits${kvm.note}`, () => {
  it("counts cycles of a port access and of a fault, here and in C", () => {
    const directory = mkdtempSync(join(tmpdir(), "daxfault-exits-test-"));
    onTestFinished(() => rmSync(directory, { recursive: true }));
    const place = { directory, environment: {} };
    const rows = benchExits({ peerSource, ...place, turns: 1, turnMs: 20, progress: () => {} });
    expect(rows.map(({ cycle }) => cycle)).toEqual(["port", "fault", "fault-ioctl"]);
    for (const { ours, peer } of rows) {
      expect(ours[0]).toBeGreaterThan(100);
      expect(peer?.[0]).toBeGreaterThan(100);
    }
  });
});

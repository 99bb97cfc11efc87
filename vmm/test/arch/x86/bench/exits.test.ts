/** The loops of `daxfault bench kvm` run on both sides; how fast is the bench's business. */
import { fileURLToPath } from "node:url";
import { describe, expect, it } from "vitest";
import { benchExits } from "../../../../src/index.ts";
import { kvmOrReason } from "../../../support/kvm.ts";

const peerSource = fileURLToPath(new URL("../../../../bench/exits.c", import.meta.url));

const kvm = kvmOrReason();

describe.skipIf(kvm.reason !== null)(`benchExits${kvm.note}`, () => {
  it("counts cycles of a port access and of a fault, here and in C", () => {
    const rows = benchExits({ peerSource, turns: 1, turnMs: 20, progress: () => {} });
    expect(rows.map(({ cycle }) => cycle)).toEqual(["port", "fault"]);
    for (const { ours, peer } of rows) {
      expect(ours[0]).toBeGreaterThan(100);
      expect(peer?.[0]).toBeGreaterThan(100);
    }
  });
});

/** Hostile VMMs and guests at a server process, for a moment; `.ci/run` and fuzz-main have them for longer. */
import { writeFileSync } from "node:fs";
import { join } from "node:path";
import { expect, it } from "vitest";
import { temporaryDirectory } from "../../../sys/test/support/directories.ts";
import { isLong } from "../../../sys/test/support/long.ts";
import { Random } from "../../src/fuzz/generate.ts";
import { HostileMessages, type Place } from "../../src/fuzz/vhost-messages.ts";
import { fuzzVhostUser } from "../../src/fuzz/vhost-user.ts";
import { HEADER_BYTES, REQUEST } from "../../src/transport/vhost-user/protocol.ts";

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

const PLACE: Place = { gpa: 0n, lengthBytes: 8192n, fdOffset: 4096n };
/** Of a region in ADD_MEM_REG and SET_MEM_TABLE, behind eight bytes of their own: gpa, length, address, offset. */
const REGION_BYTES = 32;
const LENGTH_AT = 8;
const OFFSET_AT = 24;

/** File offset and length of each region with a byte that a message hands over. */
function handedOver(bytes: Uint8Array, count: number): readonly (readonly [from: bigint, length: bigint])[] {
  const view = new DataView(
    bytes.buffer,
    bytes.byteOffset + HEADER_BYTES + 8,
    bytes.length - HEADER_BYTES - 8,
  );
  return Array.from({ length: count }, (_, i) => i * REGION_BYTES)
    .filter((at) => at + REGION_BYTES <= view.byteLength)
    .map((at) => [view.getBigUint64(at + OFFSET_AT, true), view.getBigUint64(at + LENGTH_AT, true)] as const)
    .filter(([, length]) => length > 0n);
}

it("hands over none of the bytes around the guest's memory, which are looked at afterwards", () => {
  let regions = 0;
  for (let seed = 0; seed < 20; seed += 1) {
    const messages = new HostileMessages(new Random(seed), [PLACE], 0n);
    for (let i = 0; i < 2000; i += 1) {
      const { request, bytes, descriptors } = messages.next(50);
      const isAdd = request === REQUEST.ADD_MEM_REG;
      if (!descriptors.includes("memory") || !(isAdd || request === REQUEST.SET_MEM_TABLE)) continue;
      for (const [from, length] of handedOver(bytes, isAdd ? 1 : 8)) {
        regions += 1;
        expect(from).toBeGreaterThanOrEqual(PLACE.fdOffset);
        expect(from + length).toBeLessThanOrEqual(PLACE.fdOffset + PLACE.lengthBytes);
      }
    }
  }
  expect(regions).toBeGreaterThan(1000);
});

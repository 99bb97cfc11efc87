/** The guest's memory as a serving thread sees it, while regions come and go. */
import { afterAll, expect, it } from "vitest";
import { MAP_ANONYMOUS, MAP_SHARED, mmap, munmap, PROT_READ, PROT_WRITE } from "../../../../sys/src/index.ts";
import { GuestViews } from "../../../src/transport/vhost-user/memory.ts";
import type { SharedRegion } from "../../../src/transport/vhost-user/state.ts";

const BYTES = 64 * 1024;
const address = mmap({
  lengthBytes: 3 * BYTES,
  prot: PROT_READ | PROT_WRITE,
  flags: MAP_SHARED | MAP_ANONYMOUS,
});
afterAll(() => munmap(address, 3 * BYTES));

const region = (kind: SharedRegion["kind"], gpa: number, at: number): SharedRegion => ({
  kind,
  gpa: BigInt(gpa),
  lengthBytes: BigInt(BYTES),
  address: address + BigInt(at),
});
const low = region("ram", 0, 0);
const high = region("ram", 0x100000, BYTES);
const mapping = region("window", 0x200000, 2 * BYTES);

it("keeps its views of RAM when mappings of a window come and go", () => {
  const views = new GuestViews();
  const viewOf = (regions: readonly SharedRegion[], gpa: bigint) =>
    views.memoryOf(regions).view(gpa, 16)?.buffer;
  const first = viewOf([low, high], 0n);
  expect(viewOf([low, mapping, high], 0n)).toBe(first);
  const memory = views.memoryOf([low, high, mapping]);
  expect(memory.view(0n, 16)?.buffer).toBe(first);
  expect(memory.spans(0x200000n, 16)).toEqual([
    { kind: "window", address: mapping.address, lengthBytes: 16 },
  ]);
  expect(views.memoryOf([low, high]).spans(0x200000n, 16)).toBeNull();
});

it("has no view of RAM that was taken away, and the one of what came in its place", () => {
  const views = new GuestViews();
  const before = views.memoryOf([low, high]).view(0n, 16);
  before?.fill(1);
  expect(views.memoryOf([high]).view(0n, 16)).toBeNull();
  // The same of the guest's, elsewhere here; and the same here, elsewhere in the guest.
  const moved = region("ram", 0, 2 * BYTES);
  expect([...(views.memoryOf([moved, high]).view(0n, 16) ?? [])]).toEqual(Array(16).fill(0));
  expect([...(views.memoryOf([region("ram", 0x300000, 0), high]).view(0x300000n, 16) ?? [])]).toEqual(
    Array(16).fill(1),
  );
  expect(views.memoryOf([low, high]).view(0n, 16)?.buffer).not.toBe(before?.buffer);
});

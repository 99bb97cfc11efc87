/** Views of structures against the generic decoder, field by field. */
import { describe, expect, it } from "vitest";
import { decode, layoutOf } from "../../src/abi/layout.ts";
import { structReader } from "../../src/abi/struct-view.ts";
import { STRUCTS, type StructName } from "../../src/abi/structs.ts";

const names = Object.keys(STRUCTS) as StructName[];
const BEFORE = 24;

/** `length` bytes, none like its neighbours, all with the highest bit set. */
function bytes(length: number): DataView {
  return new DataView(Uint8Array.from({ length }, (_, i) => 0x80 | ((i * 37 + 11) & 0x7f)).buffer);
}

describe("a view of a structure", () => {
  it.each(names)("%s has each scalar field as the decoder has it, at any place", (name) => {
    const view = bytes(BEFORE + layoutOf(name).sizeBytes);
    for (const at of [0, BEFORE]) {
      const scalars = Object.entries(decode(name, view, at)).filter(([, value]) => typeof value !== "object");
      const struct = new (structReader(name))(view, at) as unknown as Record<string, unknown>;
      expect(scalars.map(([field]) => [field, struct[field]])).toEqual(scalars);
    }
  });

  it("is one class for each structure", () => {
    expect(structReader("fuse_read_in")).toBe(structReader("fuse_read_in"));
    expect(structReader("fuse_read_in")).not.toBe(structReader("fuse_write_in"));
  });

  it("ends with the bytes: a field of which they are too few throws", () => {
    const short = new (structReader("fuse_setxattr_in"))(bytes(8));
    expect(short.flags).toBe(bytes(8).getUint32(4, true));
    expect(() => short.setxattr_flags).toThrow(RangeError);
  });

  it("has the types of the table: what it does not name does not compile", () => {
    const rename = new (structReader("fuse_rename2_in"))(bytes(16));
    const types: [bigint, number] = [rename.newdir, rename.flags];
    expect(types).toEqual([rename.newdir, rename.flags]);
    // @ts-expect-error a field that the structure does not have
    expect(rename.flag).toBe(undefined);
    // @ts-expect-error a 32-bit field is a number
    const wide: bigint = rename.flags;
    expect(typeof wide).toBe("number");
    // @ts-expect-error a structure that the table does not have
    expect(() => structReader("fuse_rename3_in")).toThrow();
  });
});

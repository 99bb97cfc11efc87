/** Our table against the kernel's own header, row by row, as recorded by scripts/abi-record. */
import { readdirSync, readFileSync } from "node:fs";
import { describe, expect, it } from "vitest";
import { CONSTANTS, INIT_FLAGS, KERNEL_MINOR_VERSION } from "../../src/abi/constants.ts";
import { layoutOf } from "../../src/abi/layout.ts";
import { OPCODES } from "../../src/abi/opcodes.ts";
import { STRUCTS, type StructName } from "../../src/abi/structs.ts";

/** Reserved space, out of which later protocol versions cut fields: only comparable with a header as new as ours. */
const RESERVED = /\.(unused|spare|padding)/;

function ours(): Map<string, bigint> {
  const table = new Map<string, bigint>();
  for (const name of Object.keys(STRUCTS) as StructName[]) {
    const layout = layoutOf(name);
    table.set(`sizeof ${name}`, BigInt(layout.sizeBytes));
    for (const field of layout.fields) {
      table.set(`offsetof ${name}.${field.name}`, BigInt(field.offset));
      table.set(`sizeof ${name}.${field.name}`, BigInt(field.sizeBytes));
    }
  }
  for (const row of OPCODES) table.set(`FUSE_${row.name}`, BigInt(row.number));
  for (const [name, value] of Object.entries({ ...INIT_FLAGS, ...CONSTANTS })) table.set(name, value);
  return table;
}

const folder = "fixtures/abi";
const recordings = readdirSync(folder).filter((file) => file.endsWith(".json"));

describe.each(recordings)("%s", (file) => {
  const { minor, ...recorded } = JSON.parse(readFileSync(`${folder}/${file}`, "utf8")) as Record<
    string,
    string | null
  >;
  const comparable = Object.entries(recorded).filter(([, value]) => value !== null);

  it("agrees with the table in every size, offset and constant", () => {
    const table = ours();
    const wrong = comparable
      .filter(([key]) => Number(minor) >= KERNEL_MINOR_VERSION || !RESERVED.test(key))
      .filter(([key, value]) => table.get(key) !== BigInt(value ?? 0));
    expect(wrong).toEqual([]);
    expect(comparable.length).toBeGreaterThan(400);
  });

  it("has an answer, or an explicit 'not in that header', for every row of the table", () => {
    expect(Object.keys(recorded).toSorted()).toEqual([...ours().keys()].toSorted());
    const missing = Object.entries(recorded).filter(([, value]) => value === null);
    if (Number(minor) >= KERNEL_MINOR_VERSION) expect(missing).toEqual([]);
    else console.log(`${file} is 7.${minor}: ${missing.length} newer values of our table are not comparable`);
  });
});

/** Sizes and offsets of the structures, and a generic decoder for logs and tests. Little-endian, 64-bit. */
import { type FieldName, STRUCTS, type StructName } from "./structs.ts";

export type Scalar = "u16" | "u32" | "u64" | "i32" | "i64";
const SCALAR_BYTES: Readonly<Record<Scalar, number>> = { u16: 2, u32: 4, u64: 8, i32: 4, i64: 8 };

type Shape = { readonly sizeBytes: number; readonly alignBytes: number };
export type Field = {
  readonly name: string;
  readonly type: string;
  readonly offset: number;
  readonly sizeBytes: number;
};

const laidOut = new Map<string, Shape & { readonly fields: readonly Field[] }>();

export function isScalar(type: string): type is Scalar {
  return Object.hasOwn(SCALAR_BYTES, type);
}

function shapeOf(type: string): Shape {
  const array = /^(\w+)\[(\d+)\]$/.exec(type);
  if (array !== null) {
    const element = shapeOf(array[1] ?? "");
    return { sizeBytes: element.sizeBytes * Number(array[2]), alignBytes: element.alignBytes };
  }
  if (isScalar(type)) return { sizeBytes: SCALAR_BYTES[type], alignBytes: SCALAR_BYTES[type] };
  return layoutOf(type as StructName);
}

function roundedUp(value: number, multiple: number): number {
  return Math.ceil(value / multiple) * multiple;
}

/** The layout that a C compiler gives the structure. */
export function layoutOf(name: StructName): Shape & { readonly fields: readonly Field[] } {
  const known = laidOut.get(name);
  if (known !== undefined) return known;
  const fields: Field[] = [];
  let end = 0;
  let align = 1;
  for (const [field, type] of Object.entries<string>(STRUCTS[name])) {
    const shape = shapeOf(type);
    const offset = roundedUp(end, shape.alignBytes);
    fields.push({ name: field, type, offset, sizeBytes: shape.sizeBytes });
    end = offset + shape.sizeBytes;
    align = Math.max(align, shape.alignBytes);
  }
  const layout = { sizeBytes: roundedUp(end, align), alignBytes: align, fields };
  laidOut.set(name, layout);
  return layout;
}

export function sizeOf(name: StructName): number {
  return layoutOf(name).sizeBytes;
}

/** Field name to byte offset. Look it up once, at module load: handlers read and write by these. */
export function offsetsOf<S extends StructName>(name: S): Readonly<Record<FieldName<S>, number>> {
  const pairs = layoutOf(name).fields.map((field) => [field.name, field.offset] as const);
  return Object.fromEntries(pairs) as Record<FieldName<S>, number>;
}

export type Decoded = { readonly [field: string]: bigint | number | Decoded | null };

/** The structure's fields at `offset`; null for those that lie beyond the view (older clients send less). */
export function decode(name: StructName, view: DataView, offset = 0): Decoded {
  const result: Record<string, bigint | number | Decoded | null> = {};
  for (const field of layoutOf(name).fields) {
    // Spare arrays carry nothing.
    if (field.type.endsWith("]")) continue;
    result[field.name] = fieldAt(field, view, offset + field.offset);
  }
  return result;
}

function fieldAt(field: Field, view: DataView, at: number): bigint | number | Decoded | null {
  if (at + field.sizeBytes > view.byteLength) return null;
  const { type } = field;
  if (!isScalar(type)) return decode(type as StructName, view, at);
  switch (type) {
    case "u16":
      return view.getUint16(at, true);
    case "u32":
      return view.getUint32(at, true);
    case "i32":
      return view.getInt32(at, true);
    case "u64":
      return view.getBigUint64(at, true);
    case "i64":
      return view.getBigInt64(at, true);
    default:
      return type satisfies never;
  }
}

/**
 * Writes the given fields at `offset`; the others are left alone. A field of a structure within is `lk.type`. For tests,
 * clients and the fuzz corpus.
 */
export function encode(
  name: StructName,
  values: Readonly<Record<string, bigint | number>>,
  view: DataView,
  offset = 0,
): void {
  for (const [key, value] of Object.entries(values)) {
    const [own, ...within] = key.split(".");
    const field = layoutOf(name).fields.find((candidate) => candidate.name === own);
    if (field !== undefined && within.length > 0) {
      encode(field.type as StructName, { [within.join(".")]: value }, view, offset + field.offset);
      continue;
    }
    if (field === undefined || !isScalar(field.type)) throw new Error(`${name} has no scalar field ${key}`);
    const at = offset + field.offset;
    if (field.sizeBytes === 8) view.setBigUint64(at, BigInt.asUintN(64, BigInt(value)), true);
    else if (field.sizeBytes === 4) view.setUint32(at, Number(BigInt.asUintN(32, BigInt(value))), true);
    else view.setUint16(at, Number(value), true);
  }
}

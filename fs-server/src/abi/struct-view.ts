/**
 * Structures read by field name: `new (structReader("fuse_rename2_in"))(view).flags`.
 *
 * A `structReader` is made once for each structure, with its offsets; a view of it is made for each request.
 * Names and types come from the table of structures, so a wrong name does not compile; u64 and i64 are bigint, the
 * shorter types number.
 * Arrays and nested structures are not read here; replies are written by `offsetsOf`.
 */
import { isScalar, layoutOf, type Scalar } from "./layout.ts";
import type { STRUCTS, StructName } from "./structs.ts";

type ValueOf<T> = T extends "u64" | "i64" ? bigint : number;

type Fields<S extends StructName> = {
  readonly [F in keyof (typeof STRUCTS)[S] as (typeof STRUCTS)[S][F] extends Scalar ? F : never]: ValueOf<
    (typeof STRUCTS)[S][F]
  >;
};

/** The structure `S` in `view` from `at` on. null: no structure, hence no fields. */
export type StructView<S extends StructName | null> = {
  readonly view: DataView;
  readonly at: number;
} & (S extends StructName ? Fields<S> : unknown);

export type StructReader<S extends StructName | null> = new (view: DataView, at?: number) => StructView<S>;

type View = { readonly view: DataView; readonly at: number };

function getterOf(type: Scalar, offset: number): (this: View) => number | bigint {
  switch (type) {
    case "u16":
      return function () {
        return this.view.getUint16(this.at + offset, true);
      };
    case "u32":
      return function () {
        return this.view.getUint32(this.at + offset, true);
      };
    case "i32":
      return function () {
        return this.view.getInt32(this.at + offset, true);
      };
    case "u64":
      return function () {
        return this.view.getBigUint64(this.at + offset, true);
      };
    case "i64":
      return function () {
        return this.view.getBigInt64(this.at + offset, true);
      };
    default:
      return type satisfies never;
  }
}

const made = new Map<StructName | null, StructReader<StructName | null>>();

/** The class of views of a structure: one getter for each scalar field. A field beyond the view throws a RangeError. */
export function structReader<S extends StructName | null>(name: S): StructReader<S> {
  const known = made.get(name);
  if (known !== undefined) return known as StructReader<S>;
  class Reader {
    // `declare`: a field that is defined costs 0.4 us a view where views of several structures are made in turn (Node 20).
    declare readonly view: DataView;
    declare readonly at: number;

    constructor(view: DataView, at = 0) {
      this.view = view;
      this.at = at;
    }
  }
  for (const { name: field, type, offset } of name === null ? [] : layoutOf(name).fields) {
    if (isScalar(type)) Object.defineProperty(Reader.prototype, field, { get: getterOf(type, offset) });
  }
  made.set(name, Reader);
  return Reader as unknown as StructReader<S>;
}

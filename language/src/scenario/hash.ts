/** The identity of a scenario: results are compared only where it is the same. */
import { createHash } from "node:crypto";

/** JSON with members sorted by name and 64-bit numbers in hexadecimal: one text for one value. */
export function canonicalJson(value: unknown): string {
  if (typeof value === "bigint") return `"0x${value.toString(16)}"`;
  if (Array.isArray(value)) return `[${value.map(canonicalJson).join(",")}]`;
  if (typeof value === "object" && value !== null) {
    const members = value as Readonly<Record<string, unknown>>;
    const names = Object.keys(members).sort();
    return `{${names.map((name) => `${JSON.stringify(name)}:${canonicalJson(members[name])}`).join(",")}}`;
  }
  return JSON.stringify(value) ?? "null";
}

/** The members of a scenario that describe it and do nothing: they may change, and recorded results stay this scenario's. */
type Commentary = {
  readonly purpose: string;
  readonly witness: unknown;
  readonly properties: unknown;
  readonly proposals: unknown;
};

/** First 12 hexadecimal digits of the SHA-256 of what is done. Actors keep their order, which the engine starts them in. */
export function scenarioHash(scenario: Commentary & { readonly actors: object }): string {
  const {
    purpose: _purpose,
    witness: _witness,
    properties: _properties,
    proposals: _proposals,
    actors,
    ...rest
  } = scenario;
  const text = canonicalJson({ ...rest, actors: Object.entries(actors) });
  return createHash("sha256").update(text).digest("hex").slice(0, 12);
}

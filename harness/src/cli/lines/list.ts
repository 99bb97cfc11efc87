/** The lines of `daxfault list --json`: types and schema. */
import { z } from "zod";
import {
  backingKinds,
  exitParts,
  guestParts,
  kvmParts,
  lapicPlaces,
  layouts,
  type Needs,
  type Proposal,
  type Scenario,
  serverParts,
  vmmParts,
} from "../../../../language/src/index.ts";
import type { Support } from "../../engine.ts";
import { hash, texts } from "./shapes.ts";

export type ListLine =
  | ({ readonly type: "scenario"; readonly backing: Scenario["backing"]["kind"] } & Pick<
      Scenario,
      "id" | "purpose" | "hash" | "layout" | "properties" | "proposals"
    >)
  | ({
      readonly type: "proposal";
      /** The row that it is a variant of. */
      readonly variantOf: string | null;
      readonly needs: Needs;
      /** `needs` in one line. */
      readonly needsText: string;
    } & Proposal)
  | {
      readonly type: "engine";
      readonly id: string;
      readonly text: string;
      /** false: a model. */
      readonly real: boolean;
      /** On this machine. */
      readonly available: Support;
    }
  | { readonly type: "property"; readonly id: string; readonly title: string; readonly decided: boolean };

export const listLine: z.ZodType<ListLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("scenario"),
    id: z.string(),
    purpose: z.string(),
    hash,
    layout: z.enum(layouts),
    backing: z.enum(backingKinds),
    properties: texts,
    proposals: texts.nullable(),
  }),
  z.strictObject({
    type: z.literal("proposal"),
    id: z.string(),
    title: z.string(),
    kvm: z.enum(["none", ...kvmParts]),
    exits: z.enum(["none", ...exitParts]),
    vmm: z.enum(["none", ...vmmParts]),
    guest: z.enum(["none", ...guestParts]),
    server: z.enum(serverParts),
    lapic: z.enum(lapicPlaces).nullable(),
    variantOf: z.string().nullable(),
    needs: z.strictObject({
      apic: z.enum(lapicPlaces).nullable(),
      asyncPageFaults: z.enum(["off", "on", "send-always"]).nullable(),
      guestUnderstands: z.string().nullable(),
      kernel: z.discriminatedUnion("kind", [
        z.strictObject({ kind: z.literal("stock"), since: z.string().nullable() }),
        z.strictObject({ kind: z.literal("older"), than: z.string() }),
        z.strictObject({ kind: z.literal("patched"), patch: z.string() }),
      ]),
      vmm: texts,
      server: z.string().nullable(),
    }),
    needsText: z.string(),
  }),
  z.strictObject({
    type: z.literal("engine"),
    id: z.string(),
    text: z.string(),
    real: z.boolean(),
    available: z.discriminatedUnion("kind", [
      z.strictObject({ kind: z.literal("yes") }),
      z.strictObject({ kind: z.literal("no"), reason: z.string(), fix: z.string().nullable() }),
    ]),
  }),
  z.strictObject({ type: z.literal("property"), id: z.string(), title: z.string(), decided: z.boolean() }),
]);

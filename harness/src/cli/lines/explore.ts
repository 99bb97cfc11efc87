/** The lines of `daxfault explore --json`: types and schema. */
import { z } from "zod";
import type { Claim, ClaimVerdict } from "../../../../kvm-model/src/index.ts";
import {
  type Exhaustiveness,
  type Holds,
  holdsWords,
  type OutcomeWords,
} from "../../../../language/src/index.ts";
import { exhaustivenessShape } from "../../report/jsonl.ts";
import { count } from "./shapes.ts";

export type ExploreLine =
  /** Without --scenario. */
  | {
      readonly type: "property";
      readonly proposal: string;
      /** The scenario that decides against it, or all that decide. */
      readonly scenario: string;
      readonly property: string;
      readonly holds: Holds;
      readonly exhaustiveness: Exhaustiveness;
      readonly states: number;
      /** The outcome that speaks against it. */
      readonly because: string | null;
      readonly replay: string | null;
    }
  /** With --claims. */
  | ({
      readonly type: "claim";
      readonly exhaustiveness: Exhaustiveness;
    } & Pick<Claim, "id" | "kind" | "says"> &
      Pick<ClaimVerdict, "verdict" | "tokens">)
  /** With --scenario: one for each way in which it can end. */
  | {
      readonly type: "end";
      readonly proposal: string;
      readonly scenario: string;
      readonly words: OutcomeWords;
      readonly states: number;
      readonly boundedBy: string | null;
      readonly replay: string;
    };

export const exploreLine: z.ZodType<ExploreLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("property"),
    proposal: z.string(),
    scenario: z.string(),
    property: z.string(),
    holds: z.enum(holdsWords),
    exhaustiveness: exhaustivenessShape,
    states: count,
    because: z.string().nullable(),
    replay: z.string().nullable(),
  }),
  z.strictObject({
    type: z.literal("claim"),
    id: z.string(),
    kind: z.enum(["talk", "disputed", "inferred"]),
    says: z.string(),
    verdict: z.enum(["confirmed", "refuted", "open"]),
    exhaustiveness: exhaustivenessShape,
    tokens: z.record(z.string(), z.string()),
  }),
  z.strictObject({
    type: z.literal("end"),
    proposal: z.string(),
    scenario: z.string(),
    words: z.strictObject({
      steps: z.record(z.string(), z.string()),
      bystanders: z.record(z.string(), z.string()),
      vmm: z.string().nullable(),
      guestKernel: z.string().nullable(),
    }),
    states: count,
    boundedBy: z.string().nullable(),
    replay: z.string(),
  }),
]);

/** The lines of `daxfault compare --json`: types and schema. */
import { z } from "zod";
import type { DivergenceRow } from "../../compare/divergence.ts";
import { count, texts } from "./shapes.ts";

export type CompareLine =
  | {
      readonly type: "difference";
      /** `positive`: seen and not allowed, or two runs differ. `negative`: allowed and not seen. */
      readonly sign: "positive" | "negative";
      readonly scenario: string;
      readonly proposal: string;
      readonly engine: string;
      /** null: this was not seen. */
      readonly observed: string | null;
      /** All ends that the model allows; the one that was not seen; what the other run saw. */
      readonly allowed: readonly string[];
      readonly boundedBy: string | null;
      /** Where it first differs from the nearest end. */
      readonly first: DivergenceRow | null;
      readonly replay: string | null;
    }
  /** A kernel's tracepoints come in an order that the model does not have. */
  | {
      readonly type: "order";
      readonly scenario: string;
      readonly proposal: string;
      readonly engine: string;
      /** The first line of the trace that no path of the model has. */
      readonly line: string | null;
      /** Its text, in the words that model and kernel share. */
      readonly observed: string;
      /** The model's next lines after the same beginning. */
      readonly instead: readonly string[];
      readonly replay: string | null;
    }
  /** The last line, where one side is the model. */
  | {
      readonly type: "comparison";
      readonly same: number;
      /** Recorded cases of the model itself: no observations. */
      readonly own: number;
      readonly positive: number;
      readonly bounded: number;
      readonly unsupported: number;
      readonly negative: number;
      readonly onlyModel: number;
      readonly goneErrata: readonly string[];
      readonly ordersFollowed: number;
      readonly ordersDifferent: number;
    };

export const compareLine: z.ZodType<CompareLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("difference"),
    sign: z.enum(["positive", "negative"]),
    scenario: z.string(),
    proposal: z.string(),
    engine: z.string(),
    observed: z.string().nullable(),
    allowed: texts,
    boundedBy: z.string().nullable(),
    first: z.strictObject({ what: z.string(), observed: z.string(), allowed: z.string() }).nullable(),
    replay: z.string().nullable(),
  }),
  z.strictObject({
    type: z.literal("order"),
    scenario: z.string(),
    proposal: z.string(),
    engine: z.string(),
    line: z.string().nullable(),
    observed: z.string(),
    instead: texts,
    replay: z.string().nullable(),
  }),
  z.strictObject({
    type: z.literal("comparison"),
    same: count,
    own: count,
    positive: count,
    bounded: count,
    unsupported: count,
    negative: count,
    onlyModel: count,
    goneErrata: texts,
    ordersFollowed: count,
    ordersDifferent: count,
  }),
]);

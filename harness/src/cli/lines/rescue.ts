/** The lines of `daxfault rescue --json`: types and schema. */
import { z } from "zod";
import type { Verdict } from "../../diagnose/verdict.ts";
import type { Done } from "../../rescue/act.ts";
import type { RescueKind } from "../../rescue/plan.ts";
import { verdictSchema } from "./diagnose.ts";
import { count, texts } from "./shapes.ts";

/** `rescue`: a plan; what was done, where it was named; what the VM did afterwards. */
export type RescueLine =
  | {
      readonly type: "plan";
      readonly pid: number;
      readonly verdict: Verdict;
      readonly steps: readonly {
        readonly option: string;
        readonly kind: RescueKind;
        readonly what: string;
        readonly price: string;
      }[];
      readonly hints: readonly string[];
    }
  | ({ readonly type: "done"; readonly pid: number } & {
      readonly result: Done["kind"];
      readonly text: string;
    })
  | {
      readonly type: "after";
      readonly pid: number;
      readonly goesOn: boolean;
      /** From the end of the step to the end of the look that shows it. */
      readonly afterMs: number;
      readonly verdict: Verdict | null;
    };
export const rescueLine: z.ZodType<RescueLine> = z.discriminatedUnion("type", [
  z.strictObject({
    type: z.literal("plan"),
    pid: count,
    verdict: verdictSchema,
    steps: z.array(
      z.strictObject({
        option: z.string(),
        kind: z.enum(["grow", "continue", "stop"]),
        what: z.string(),
        price: z.string(),
      }),
    ),
    hints: texts,
  }),
  z.strictObject({
    type: z.literal("done"),
    pid: count,
    result: z.enum(["done", "nothing", "failed"]),
    text: z.string(),
  }),
  z.strictObject({
    type: z.literal("after"),
    pid: count,
    goesOn: z.boolean(),
    afterMs: z.number(),
    verdict: verdictSchema.nullable(),
  }),
]);

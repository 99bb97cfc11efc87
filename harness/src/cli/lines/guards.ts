/** The lines of `daxfault guards --json`: types and schema. */
import { z } from "zod";
import type { Cell as GuardCell, ModelsWord } from "../../guards/matrix.ts";
import { hash, texts } from "./shapes.ts";

export type GuardsLine = {
  readonly type: "guard";
  /** How the file is made shorter, and what the guest does meanwhile. */
  readonly way: string;
  readonly state: string;
  readonly scenarioHash: string;
  readonly proposal: string;
  readonly cell: GuardCell;
  readonly model: ModelsWord;
  /** Why there is no cell: the engine's words. */
  readonly failure: string | null;
};

export const guardsLine: z.ZodType<GuardsLine> = z.strictObject({
  type: z.literal("guard"),
  way: z.string(),
  state: z.string(),
  scenarioHash: hash,
  proposal: z.string(),
  cell: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("prevented"), hostMs: z.number() }),
    z.strictObject({ kind: z.literal("late"), toldAfterMs: z.number() }),
    z.strictObject({ kind: z.literal("missed"), vmm: z.string(), refused: z.boolean() }),
    z.strictObject({ kind: z.literal("denied"), errno: z.string() }),
    z.strictObject({ kind: z.literal("untouched"), hostMs: z.number(), recalled: z.boolean() }),
    z.strictObject({ kind: z.literal("not-for"), reason: z.string() }),
  ]),
  model: z.discriminatedUnion("kind", [
    z.strictObject({ kind: z.literal("allowed") }),
    z.strictObject({ kind: z.literal("not-allowed"), observed: z.string(), allowed: texts }),
    z.strictObject({ kind: z.literal("no-answer"), reason: z.string() }),
  ]),
  failure: z.string().nullable(),
});

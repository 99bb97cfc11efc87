/** The lines of `daxfault protect --json`: types and schema. */
import { z } from "zod";
import type { Attempt } from "../../protect/messages.ts";
import type { ProtectLine } from "../../protect/news.ts";
import { count, nullableText } from "./shapes.ts";

const bytesInDecimal = z.string().regex(/^[0-9]+$/);
const attempt: z.ZodType<Attempt> = z.strictObject({
  who: z.strictObject({ tid: count, pid: count.nullable(), name: z.string(), uid: count.nullable() }),
  what: z.string(),
  fromBytes: bytesInDecimal,
  sizeBytes: bytesInDecimal,
});
const at = z.string();
export const protectLine: z.ZodType<ProtectLine> = z.discriminatedUnion("type", [
  z.strictObject({
    at,
    type: z.literal("file"),
    path: z.string(),
    pids: z.array(count),
    means: z.enum(["refused", "sealed", "noticed", "nothing"]),
    reason: nullableText,
    sizeBytes: count.nullable(),
    mappedBytes: count,
    behindEndBytes: count.nullable(),
  }),
  z.strictObject({ at, type: z.literal("folder"), path: z.string(), folders: count, refused: count }),
  z.strictObject({ at, type: z.literal("folders-cut"), path: z.string(), max: count }),
  z.strictObject({ at, type: z.literal("ready"), files: count, refused: count }),
  z.strictObject({ at, type: z.literal("refused"), path: z.string(), attempt }),
  z.strictObject({ at, type: z.literal("passed"), path: z.string(), attempt }),
  z.strictObject({ at, type: z.literal("overdue"), attempt }),
  z.strictObject({ at, type: z.literal("shorter"), path: z.string(), fromBytes: count, toBytes: count }),
  z.strictObject({ at, type: z.literal("gap"), why: z.string() }),
  z.strictObject({ at, type: z.literal("gap-over"), ms: z.number() }),
  z.strictObject({ at, type: z.literal("unseen"), pid: count, why: z.string() }),
  z.strictObject({ at, type: z.literal("process-ended"), pid: count }),
  z.strictObject({ at, type: z.literal("left-out"), count }),
]);

/** Shapes that the lines of several commands share. */
import { z } from "zod";

export const count: z.ZodNumber = z.number().int().min(0);
export const texts: z.ZodArray<z.ZodString> = z.array(z.string());
export const hash: z.ZodString = z.string().regex(/^[0-9a-f]{12}$/);
export const nullableText: z.ZodNullable<z.ZodString> = z.string().nullable();

/** The first process of what we boot (harness/initramfs/init.c), as the build left it. */
import { readFileSync } from "node:fs";
import { builtPath } from "../paths.ts";
import { KernelError } from "./error.ts";

/** Throws a KernelError that says how to build it. */
export function builtInit(): Uint8Array {
  const path = builtPath("harness/initramfs/init");
  try {
    return readFileSync(path);
  } catch {
    throw new KernelError(`${path} is not built (scripts/build; it needs gcc)`);
  }
}

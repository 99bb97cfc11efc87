/** The virtiofsd of Debian's stable distribution, Rust's, to measure ours beside it. */
import type { Progress } from "./store.ts";
import { obtainProgram, type UnpackedProgram } from "./unpacked-program.ts";

const WANTED = {
  name: "virtiofsd",
  suites: ["stable"],
  suite: "stable",
  programPath: "usr/libexec/virtiofsd",
  kept: [],
} as const;

/** Throws a KernelError. */
export function obtainVirtiofsd(signal: AbortSignal, progress: Progress): Promise<UnpackedProgram> {
  return obtainProgram(WANTED, signal, progress);
}

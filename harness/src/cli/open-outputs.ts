/** Which files a command reads and writes, and what becomes of those that it writes. How: output-file.ts, loaded where one is. */
import { errorText } from "../error-text.ts";

/** An output could not be written: the disk is full, the device refuses. The message names option and file. */
export class OutputError extends Error {
  override readonly name = "OutputError";
}

export type PendingOutput = {
  readonly option: string;
  readonly path: string;
  /** Is it this file, under whatever name? */
  isAt(path: string): boolean;
  close(): void;
  rename(): void;
  discard(): void;
};

/** All outputs of the command. */
export const openOutputs: Set<PendingOutput> = new Set<PendingOutput>();
/** All inputs of the command. */
export const inputs: Set<string> = new Set<string>();

/** Names files that the command reads: none of them may be an output. */
export function declareInputs(paths: readonly string[]): void {
  for (const path of paths) inputs.add(path);
}

/** Puts all outputs in their places. An OutputError if one cannot be: then none of the rest is. */
export function commitOutputs(): void {
  inputs.clear();
  for (const output of openOutputs) output.close();
  for (const output of openOutputs) {
    openOutputs.delete(output);
    try {
      output.rename();
    } catch (error) {
      output.discard();
      throw new OutputError(`${output.option} ${output.path}: ${errorText(error)}`);
    }
  }
}

/** The command has failed: none of its outputs comes about. */
export function discardOutputs(): void {
  for (const output of openOutputs) {
    output.close();
    output.discard();
  }
  openOutputs.clear();
  inputs.clear();
}

/** Where a window offset lies in the file. */
import type { Scenario, WindowMapping } from "./scenario.ts";

/** The mappings, in every layout: without a window the whole file at offset 0. */
export function mappingsOf(
  scenario: Pick<Scenario, "layout" | "window" | "backing">,
): readonly WindowMapping[] {
  if (scenario.layout === "dax-window") return scenario.window;
  return [{ fileOffset: 0n, at: 0n, length: scenario.backing.size }];
}

/** The mapping that holds all of `size` bytes at window offset `offset`, or null. */
export function mappingAt(
  scenario: Pick<Scenario, "layout" | "window" | "backing">,
  offset: bigint,
  size: number,
): WindowMapping | null {
  for (const mapping of mappingsOf(scenario)) {
    if (offset >= mapping.at && offset + BigInt(size) <= mapping.at + mapping.length) return mapping;
  }
  return null;
}

/** The file offset behind a window offset. Throws outside every mapping, which `parse.ts` has excluded for steps. */
export function fileOffsetAt(scenario: Scenario, offset: bigint): bigint {
  const mapping = mappingAt(scenario, offset, 1);
  if (mapping === null) throw new RangeError(`window offset 0x${offset.toString(16)} is not mapped`);
  return mapping.fileOffset + (offset - mapping.at);
}

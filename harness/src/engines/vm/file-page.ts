/** A page of a case's file by a mapping of one's own: what is done to the page is so for all who have it mapped. */
import { closeSync, openSync } from "node:fs";
import {
  failMemory,
  isPageThere,
  MAP_SHARED,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_READ,
} from "../../../../sys/src/index.ts";
import type { CasePlan } from "./plan.ts";

/** The file's part behind a window offset. */
export function fileOffsetOf({ mappings }: Pick<CasePlan, "mappings">, offset: bigint): bigint {
  const mapping = mappings.find(({ at, length }) => offset >= at && offset < at + length);
  if (mapping === undefined) throw new RangeError(`no file is mapped at 0x${offset.toString(16)}`);
  return mapping.fileOffset + (offset - mapping.at);
}

/** memory_failure() takes the page behind a window offset. Throws a SyscallError. */
export function failPageOfFile(plan: Pick<CasePlan, "mappings" | "filePath">, offset: bigint): void {
  const fd = openSync(plan.filePath, "r");
  const fileOffset = fileOffsetOf(plan, offset);
  const address = mmap({ lengthBytes: PAGE_SIZE, prot: PROT_READ, flags: MAP_SHARED, fd, fileOffset });
  try {
    if (!isPageThere(address, "read")) throw new Error(`the file's page at ${fileOffset} cannot be read`);
    failMemory(address);
  } finally {
    munmap(address, PAGE_SIZE);
    closeSync(fd);
  }
}

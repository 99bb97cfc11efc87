/** What a process of the host does to a file by its path, one call each. Descriptors that are kept are the caller's. */
import { closeSync, ftruncateSync, openSync, renameSync, unlinkSync, writeFileSync } from "node:fs";
import { fromValue, type HostAction } from "../../../language/src/index.ts";
import {
  collapseRange,
  copyIn,
  copyOut,
  files,
  inOwnMountNamespace,
  MAP_SHARED,
  mmap,
  munmap,
  PAGE_SIZE,
  PROT_READ,
  PROT_WRITE,
  punchHole,
  setFileSystemIdentity,
  storeThroughMapping,
  truncate,
} from "../../../sys/src/index.ts";
import type { ServerAction } from "./server-action.ts";

const NOBODY = 65534;

/** By the magic link of a descriptor: this user need not have access to the folders above the file. */
function truncateAsNobody(path: string, size: bigint): void {
  const fd = openSync(path, files.O_PATH);
  setFileSystemIdentity(NOBODY, NOBODY);
  try {
    truncate(`/proc/self/fd/${fd}`, size);
  } finally {
    setFileSystemIdentity(process.geteuid?.() ?? 0, process.getegid?.() ?? 0);
    closeSync(fd);
  }
}

function truncateAs(action: Extract<HostAction, { verb: "truncate" }>, path: string): void {
  const work = () =>
    action.options?.includes("as-nobody") === true
      ? truncateAsNobody(path, action.size)
      : truncate(path, action.size);
  if (action.options?.includes("own-namespace") === true) inOwnMountNamespace(work);
  else work();
}

function openAnd(path: string, flags: string, work: (fd: number) => void): void {
  const fd = openSync(path, flags);
  try {
    work(fd);
  } finally {
    closeSync(fd);
  }
}

/** The bytes by a mapping of this process's own: where a page of them is lost, SIGBUS ends it. */
function withMapping(
  path: string,
  { offset, size }: { readonly offset: bigint; readonly size: number },
  work: (address: bigint) => void,
): void {
  const inPage = offset % BigInt(PAGE_SIZE);
  const lengthBytes = Number(inPage) + size;
  const fileOffset = offset - inPage;
  openAnd(path, "r+", (fd) => {
    const address = mmap({ lengthBytes, prot: PROT_READ | PROT_WRITE, flags: MAP_SHARED, fd, fileOffset });
    work(address + inPage);
    munmap(address, lengthBytes);
  });
}

/** Those that need no descriptor from before. */
export type PathAction = Exclude<HostAction, { verb: "open" | "ftruncate" } | ServerAction>;

/** Throws what the system call throws. */
export function actOnPath(action: PathAction, path: string): void {
  switch (action.verb) {
    case "truncate":
      truncateAs(action, path);
      return;
    case "open-truncate":
      openAnd(path, "r+", (fd) => ftruncateSync(fd, Number(action.size)));
      return;
    case "open-trunc":
      openAnd(path, "w", () => {});
      return;
    case "open-read":
      openAnd(path, "r", () => {});
      return;
    case "punch":
      punchHole(path, action.offset, action.length);
      return;
    case "collapse":
      collapseRange(path, action.offset, action.length);
      return;
    case "map-store":
      storeThroughMapping(path, action.offset, action.value);
      return;
    case "device-read":
      withMapping(path, action, (address) => copyOut(address, action.size));
      return;
    case "device-write":
      withMapping(path, action, (address) => copyIn(address, fromValue(action.value, action.size)));
      return;
    case "rename-over":
      writeFileSync(`${path}.other`, "");
      renameSync(`${path}.other`, path);
      return;
    case "unlink":
      unlinkSync(path);
      return;
  }
}

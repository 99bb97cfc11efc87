/** The memory behind a case's window, as its layout has it: a DAX window with files in it, or one file mapped whole. */
import { closeSync, openSync } from "node:fs";
import { basename } from "node:path";
import {
  type Answer,
  ArmedFileSystem,
  type Call,
  MemoryClient,
  type OpcodeName,
  PassthroughFileSystem,
  ROOT_NODE,
  Session,
} from "../../../../fs-server/src/index.ts";
import { isPrivate, type UserfaultHandler } from "../../../../language/src/index.ts";
import {
  errnoName,
  fillWithCopies,
  MAP_ANONYMOUS,
  MAP_NORESERVE,
  MAP_PRIVATE,
  MAP_SHARED,
  mmap,
  munmap,
  PROT_READ,
  PROT_WRITE,
} from "../../../../sys/src/index.ts";
import { type FencedMapping, type Machine, MmapWindow } from "../../../../vmm/src/index.ts";
import { GuestMemory } from "./guest-memory.ts";
import type { VmPlan } from "./plan.ts";
import { Userfaults } from "./userfault.ts";

export type Window = {
  readonly hva: bigint;
  readonly bytes: number;
  readonly mappings: readonly FencedMapping[];
  /** Of a guest_memfd: no page of it is the file's, and none is looked up by the VMM's mapping. */
  readonly guestMemory?: GuestMemory;
  /** There is a VM, which has not run yet. */
  join?(vm: Machine["vm"]): void;
  /** Has what waits for a page that the window's owner does not give go on. */
  release(): void;
  /** The VM must be gone. */
  close(): Promise<void>;
};

/** FUSE_SETUPMAPPING_FLAG_WRITE and _READ (linux/fuse.h), as fuse_setup_one_mapping() of fs/fuse/dax.c sets them. */
const READ_AND_WRITE = 3n;
const READ = 2n;
/** No file handle: the driver maps by node id. */
const NO_HANDLE = 2n ** 64n - 1n;
/** Every answer here is one structure. */
const REPLY_BYTES = 4096;

/** Sends one request; throws for an errno. */
function ask(client: MemoryClient, name: OpcodeName, call: Call): Answer {
  const answer = client.call(name, call);
  if (answer.errno !== 0) throw new Error(`${name}: ${errnoName(answer.errno)}`);
  return answer;
}

/**
 * The window as a virtio-fs device fills it: FUSE messages to the file server, INIT, LOOKUP and a SETUPMAPPING for each
 * mapping, DESTROY at the end.
 * @param armed the descriptor to map, where a guard holds the file; null: the server opens it
 */
function openDaxWindow(plan: VmPlan, armed: number | null): Window {
  const window = new MmapWindow(BigInt(plan.windowBytes));
  const source = new PassthroughFileSystem(plan.sourceDirectory);
  const fs = armed === null ? source : new ArmedFileSystem(source, armed);
  const session = new Session({ fs, window });
  const client = new MemoryClient(session, { split: null, capacityBytes: REPLY_BYTES });
  client.init();
  const entry = ask(client, "LOOKUP", { node: ROOT_NODE, names: [basename(plan.filePath)] });
  // struct fuse_entry_out begins with the node id.
  const node = entry.body.getBigUint64(0, true);
  for (const { fileOffset, at, length } of plan.mappings) {
    const flags = plan.memory.readonly ? READ : READ_AND_WRITE;
    const args = { fh: NO_HANDLE, foffset: fileOffset, len: length, flags, moffset: at };
    ask(client, "SETUPMAPPING", { node, args });
  }
  return {
    hva: window.hva,
    bytes: plan.windowBytes,
    mappings: plan.mappings.map(({ fileOffset, at, length }) => ({
      hva: window.hva + at,
      fileOffset,
      lengthBytes: length,
      ...(plan.memory.readonly ? { writable: false } : {}),
    })),
    release() {},
    async close() {
      ask(client, "DESTROY", {});
      fs.close();
      window.close();
    },
  };
}

/** mmap(2)'s flags for a file of that kind. What hugetlbfs would reserve for the whole of it its pool need not have. */
function mapFlags(kind: VmPlan["memory"]["kind"]): number {
  if (isPrivate(kind)) return MAP_PRIVATE;
  return MAP_SHARED | (kind === "hugetlb" ? MAP_NORESERVE : 0);
}

/** The file as an NVDIMM: mapped whole, the mapping itself the memslot. */
function openNvdimm(plan: VmPlan, armed: number | null): Window {
  const { kind, readonly } = plan.memory;
  const fd = armed ?? openSync(plan.filePath, "r+");
  const bytes = plan.mappings.reduce((sum, { length }) => sum + Number(length), 0);
  const prot = PROT_READ | (readonly ? 0 : PROT_WRITE);
  const hva = mmap({ lengthBytes: bytes, prot, flags: mapFlags(kind), fd });
  if (kind === "private-swapped") fillWithCopies(hva, bytes, fd);
  if (armed === null) closeSync(fd);
  const writable = readonly ? { writable: false } : {};
  const mappings = [{ hva, fileOffset: 0n, lengthBytes: BigInt(bytes), ...writable }];
  return { hva, bytes, mappings, release() {}, close: async () => munmap(hva, bytes) };
}

/** Memory of the VMM's own, which the handler of a userfaultfd fills. No page of it is the file's. */
function openUserfaults(plan: VmPlan, handler: UserfaultHandler): Window {
  const bytes = plan.windowBytes;
  const hva = mmap({
    lengthBytes: bytes,
    prot: PROT_READ | PROT_WRITE,
    flags: MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE,
  });
  const faults = new Userfaults(handler, hva, bytes, plan.filePath);
  return {
    hva,
    bytes,
    mappings: [],
    release: () => faults.release(),
    async close() {
      await faults.close();
      munmap(hva, bytes);
    },
  };
}

function openGuestMemory(plan: VmPlan): Window {
  const guestMemory = new GuestMemory(plan.windowBytes, plan.filePath);
  const { hva, bytes } = guestMemory;
  return {
    hva,
    bytes,
    mappings: [],
    guestMemory,
    join: (vm) => guestMemory.join(vm),
    release() {},
    close: async () => guestMemory.close(),
  };
}

/** @param armed the descriptor that a guard has armed, or null */
export function openWindow(plan: VmPlan, armed: number | null): Window {
  const { handler, kind } = plan.memory;
  if (kind === "guest-memfd") return openGuestMemory(plan);
  if (handler !== undefined) return openUserfaults(plan, handler);
  return plan.layout === "dax-window" ? openDaxWindow(plan, armed) : openNvdimm(plan, armed);
}
